package core

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// nothing is the View of an empty store; an Overlay over it is a whole store.
type nothing struct{}

func (nothing) Head(string) (Head, bool, error)                { return Head{}, false, nil }
func (nothing) Write(string) (Write, bool, error)              { return Write{}, false, nil }
func (nothing) Event(string) (Place, bool, error)              { return Place{}, false, nil }
func (nothing) Outcome(int64) (*eventsv1.Outcome, bool, error) { return nil, false, nil }

// transcript numbers the commands of one owner, unless a test says otherwise.
type transcript struct {
	state   State
	overlay *Overlay
	seq     int64
	request int64
}

func TestApply(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		tr := &transcript{state: Initial(), overlay: NewOverlay(nothing{}), request: 99}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return tr.run(t, d) })
	})
}

func (tr *transcript) run(t *testing.T, d *datadriven.TestData) string {
	number := func(key string, otherwise int64) int64 {
		if arg, ok := d.Arg(key); ok {
			n, err := strconv.ParseInt(arg.Vals[0], 10, 64)
			if err != nil {
				d.Fatalf(t, "%s: %v", key, err)
			}
			return n
		}
		return otherwise
	}
	text := func(key string) string {
		if arg, ok := d.Arg(key); ok && len(arg.Vals) > 0 {
			return arg.Vals[0]
		}
		return ""
	}
	if d.Cmd == "state" {
		s := tr.state
		return fmt.Sprintf("applied=%d term=%d seq=%d request=%d time=%d forgotten<%d swept<%d rules=%+v writes=%d\n",
			s.Applied, s.Term, s.Seq, s.RequestOffset, s.TimeMS, s.ForgottenBelow, s.SweptBelow, s.Rules, tr.remembered())
	}
	cmd := Command{Offset: number("offset", tr.state.Applied+1)}
	r := &eventsv1.WriteCommandValidated{StreamId: text("stream"), WriteId: text("write"), BodyHash: []byte(text("body"))}
	cmd.Record = r
	switch d.Cmd {
	case "claim":
		r.Kind = eventsv1.CommandKind_COMMAND_KIND_CLAIM
		tr.seq = 0
	case "undecodable":
		cmd.Record, cmd.Undecodable = nil, "not a WriteCommandValidated"
	case "rules":
		r.Kind = eventsv1.CommandKind_COMMAND_KIND_RULES
		def := DefaultRules()
		r.Rules = &eventsv1.ApplyRules{
			Version: int32(number("version", 1)), DedupeWindow: number("window", def.DedupeWindow),
			MaxEventBytes: number("event-bytes", def.MaxEventBytes), MaxWriteBytes: number("write-bytes", def.MaxWriteBytes),
			MaxWriteEvents: int32(number("events", int64(def.MaxWriteEvents))),
		}
	case "append":
		r.Kind = eventsv1.CommandKind_COMMAND_KIND_APPEND
	case "soft-delete":
		r.Kind = eventsv1.CommandKind_COMMAND_KIND_SOFT_DELETE
	case "tombstone":
		r.Kind = eventsv1.CommandKind_COMMAND_KIND_TOMBSTONE
	case "unknown":
		r.Kind = 77
	case "no-command":
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	if cmd.Record != nil && d.Cmd != "claim" {
		tr.seq++
		r.Seq = number("seq", tr.seq)
		r.Term = number("term", tr.state.Term)
		if d.Cmd != "rules" {
			tr.request++
			r.RequestOffset = number("request", tr.request)
		}
		r.ExpectedVersion = number("expect", ExpectAny)
		r.RequestedAtMs = number("at", 0)
	}
	if arg, ok := d.Arg("events"); ok {
		for _, id := range arg.Vals {
			r.Events = append(r.Events, &eventsv1.NewEvent{EventId: id, EventType: "t", Data: make([]byte, number("bytes", 1))})
		}
	}
	next, ch, err := Apply(tr.state, cmd, tr.overlay)
	tr.seq = next.Seq
	if err != nil {
		if next != tr.state {
			d.Fatalf(t, "the state changed with an error")
		}
		return fmt.Sprintf("halt (%T): %v\n", err, err)
	}
	tr.state = next
	tr.overlay.Add(ch)
	return describe(ch)
}

func (tr *transcript) remembered() int {
	n := 0
	for _, w := range tr.overlay.writes {
		if w != nil {
			n++
		}
	}
	return n
}

func describe(ch Changes) string {
	o := ch.Outcome
	var b strings.Builder
	fmt.Fprintf(&b, "%d<-%d %s", o.LogOffset, o.PreviousOffset, strings.TrimPrefix(o.Kind.String(), "OUTCOME_KIND_"))
	switch o.Kind {
	case eventsv1.OutcomeKind_OUTCOME_KIND_APPLIED:
		fmt.Fprintf(&b, " versions=%d..%d", o.FirstVersion, o.NewVersion)
	case eventsv1.OutcomeKind_OUTCOME_KIND_DUPLICATE:
		fmt.Fprintf(&b, " versions=%d..%d of=%d", o.FirstVersion, o.NewVersion, o.DuplicateOf)
	case eventsv1.OutcomeKind_OUTCOME_KIND_REJECTED:
		fmt.Fprintf(&b, " %s actual=%d", strings.TrimPrefix(o.Reason.String(), "REJECT_REASON_"), o.ActualVersion)
	}
	if len(o.EventIds) > 0 {
		fmt.Fprintf(&b, " events=%s", strings.Join(o.EventIds, ","))
	}
	fmt.Fprintf(&b, " term=%d seq=%d request=%d at=%d", o.Term, o.Seq, o.RequestOffset, o.CreatedAtMs)
	if o.Message != "" {
		fmt.Fprintf(&b, " %q", o.Message)
	}
	if ch.HeadChanged {
		fmt.Fprintf(&b, "\n  head state=%d version=%d first=%d", ch.Head.State, ch.Head.Version, ch.Head.FirstVersion)
	}
	if len(ch.Forget) > 0 {
		fmt.Fprintf(&b, "\n  forgets %s", strings.Join(ch.Forget, ","))
	}
	return b.String() + "\n"
}

// The hash must change with every field that decides something.
func TestChainSeesEveryDecisiveField(t *testing.T) {
	base := func() *eventsv1.Outcome { return &eventsv1.Outcome{EventIds: []string{"a", "b"}} }
	want := Chain(1, base())
	for name, change := range map[string]func(*eventsv1.Outcome){
		"offset":     func(o *eventsv1.Outcome) { o.LogOffset++ },
		"previous":   func(o *eventsv1.Outcome) { o.PreviousOffset++ },
		"kind":       func(o *eventsv1.Outcome) { o.Kind++ },
		"command":    func(o *eventsv1.Outcome) { o.Command++ },
		"reason":     func(o *eventsv1.Outcome) { o.Reason++ },
		"first":      func(o *eventsv1.Outcome) { o.FirstVersion++ },
		"new":        func(o *eventsv1.Outcome) { o.NewVersion++ },
		"expected":   func(o *eventsv1.Outcome) { o.ExpectedVersion++ },
		"actual":     func(o *eventsv1.Outcome) { o.ActualVersion++ },
		"duplicate":  func(o *eventsv1.Outcome) { o.DuplicateOf++ },
		"term":       func(o *eventsv1.Outcome) { o.Term++ },
		"seq":        func(o *eventsv1.Outcome) { o.Seq++ },
		"request":    func(o *eventsv1.Outcome) { o.RequestOffset++ },
		"created":    func(o *eventsv1.Outcome) { o.CreatedAtMs++ },
		"stream":     func(o *eventsv1.Outcome) { o.StreamId = "s" },
		"write":      func(o *eventsv1.Outcome) { o.WriteId = "w" },
		"events":     func(o *eventsv1.Outcome) { o.EventIds = []string{"ab"} },
		"one event":  func(o *eventsv1.Outcome) { o.EventIds = []string{"a"} },
		"event sort": func(o *eventsv1.Outcome) { o.EventIds = []string{"b", "a"} },
	} {
		o := base()
		change(o)
		if Chain(1, o) == want {
			t.Errorf("%s does not change the hash", name)
		}
	}
	if Chain(2, base()) == want {
		t.Error("the hash before does not change the hash")
	}
	o := base()
	o.Message, o.ReplyTo = "words", "somewhere"
	if Chain(1, o) != want {
		t.Error("words or the reply address change the hash")
	}
}

// When the window shrinks by more than one record may sweep, a forgotten write_id
// may be used again before its old entry is swept; the sweep must leave the new one.
func TestSweepLeavesALaterWriteOfTheSameID(t *testing.T) {
	state, overlay, seq := Initial(), NewOverlay(nothing{}), int64(0)
	apply := func(r *eventsv1.WriteCommandValidated) *eventsv1.Outcome {
		t.Helper()
		if r.Kind != eventsv1.CommandKind_COMMAND_KIND_CLAIM {
			seq++
			r.Seq, r.RequestOffset = seq, seq
		}
		next, ch, err := Apply(state, Command{Offset: state.Applied + 1, Record: r}, overlay)
		if err != nil {
			t.Fatal(err)
		}
		state = next
		overlay.Add(ch)
		return ch.Outcome
	}
	write := func(id, event string) *eventsv1.WriteCommandValidated {
		return &eventsv1.WriteCommandValidated{
			Kind: eventsv1.CommandKind_COMMAND_KIND_APPEND, StreamId: "s", WriteId: id, ExpectedVersion: ExpectAny,
			Events: []*eventsv1.NewEvent{{EventId: event, EventType: "t"}},
		}
	}
	apply(&eventsv1.WriteCommandValidated{Kind: eventsv1.CommandKind_COMMAND_KIND_CLAIM})
	for i := range 200 {
		apply(write(fmt.Sprintf("w%d", i), fmt.Sprintf("e%d", i)))
	}
	apply(&eventsv1.WriteCommandValidated{Kind: eventsv1.CommandKind_COMMAND_KIND_RULES, Rules: &eventsv1.ApplyRules{
		Version: 1, DedupeWindow: 10, MaxEventBytes: 10, MaxWriteBytes: 10, MaxWriteEvents: 10,
	}})
	again := apply(write("w150", "new"))
	if again.Kind != eventsv1.OutcomeKind_OUTCOME_KIND_APPLIED || state.SweptBelow > 150 {
		t.Fatalf("w150 is %v with swept < %d; want it applied before it is swept", again.Kind, state.SweptBelow)
	}
	for i := range 5 {
		apply(write(fmt.Sprintf("x%d", i), fmt.Sprintf("f%d", i)))
	}
	if state.SweptBelow != state.ForgottenBelow {
		t.Fatalf("swept < %d, forgotten < %d", state.SweptBelow, state.ForgottenBelow)
	}
	// Not by a retry: its events would make it a duplicate without the memory too.
	if w, found, _ := overlay.Write("w150"); !found || w.Offset != again.LogOffset {
		t.Fatalf("the sweep of the first w150 has taken the second: found %v, %+v", found, w)
	}
	if _, found, _ := overlay.Write("w149"); found {
		t.Fatal("w149 was not swept")
	}
}
