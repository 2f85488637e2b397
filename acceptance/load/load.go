// Package load puts a system under random concurrent appends and reads, records
// what the clients saw, and checks it.
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/acceptance/history"
)

// Options of a load.
type Options struct {
	Seed uint64
	// Writers and Streams; 32 and 4 when 0.
	Writers, Streams int
	// MostOps bounds the history, so that it can be checked; 20,000 when 0.
	MostOps int
	// Prefix of the streams' names; "s" when empty.
	Prefix string
}

// Load is a load that runs.
type Load struct {
	t       testing.TB
	system  *harness.Running
	o       Options
	rec     *history.Recorder
	heads   []atomic.Int64 // what some client knows of each stream
	settled atomic.Int64   // operations
	acked   atomic.Int64
	stop    chan struct{}
	ctx     context.Context
	cancel  context.CancelFunc
	done    sync.WaitGroup
	stopped sync.Once
}

// Start starts the writers: half over REST, half over gRPC. They go on until Finish, whatever happens to the system.
func Start(t testing.TB, system *harness.Running, o Options) *Load {
	t.Helper()
	if o.Writers == 0 {
		o.Writers = 32
	}
	if o.Streams == 0 {
		o.Streams = 4
	}
	if o.MostOps == 0 {
		o.MostOps = 20_000
	}
	if o.Prefix == "" {
		o.Prefix = "s"
	}
	ctx, cancel := context.WithCancel(t.Context())
	l := &Load{t: t, system: system, o: o, rec: history.NewRecorder(), heads: make([]atomic.Int64, o.Streams), stop: make(chan struct{}), ctx: ctx, cancel: cancel}
	for i := range l.heads {
		l.heads[i].Store(-1)
	}
	for w := range o.Writers {
		var store harness.Store = system.REST
		if w%2 == 1 {
			store = system.GRPC
		}
		l.done.Go(func() { l.write(w, store, rand.New(rand.NewPCG(o.Seed, uint64(w)))) }) //nolint:gosec // a test's choices
	}
	t.Cleanup(func() { l.end(); l.cancel(); l.done.Wait() })
	return l
}

// Acknowledged is how many appends were.
func (l *Load) Acknowledged() int64 { return l.acked.Load() }

// AwaitMore waits until n more appends were acknowledged.
func (l *Load) AwaitMore(n int64, within time.Duration) {
	l.t.Helper()
	from := l.Acknowledged()
	harness.Eventually(l.t, within, fmt.Sprintf("%d more appends are acknowledged", n), func() error {
		if have := l.Acknowledged() - from; have < n && !l.full() {
			return fmt.Errorf("%d were", have)
		}
		return nil
	})
}

// AwaitFull waits until as many operations as MostOps are settled.
func (l *Load) AwaitFull(within time.Duration) {
	l.t.Helper()
	harness.Eventually(l.t, within, "the load is done", func() error {
		if !l.full() {
			return fmt.Errorf("%d of %d operations are", l.settled.Load(), l.o.MostOps)
		}
		return nil
	})
}

func (l *Load) full() bool { return l.settled.Load() >= int64(l.o.MostOps) }

func (l *Load) end() { l.stopped.Do(func() { close(l.stop) }) }

// Finish lets every writer settle what it has begun, for so long at most, and returns
// what was seen. The system must be up.
func (l *Load) Finish(within time.Duration) []history.Op {
	l.t.Helper()
	l.end()
	timer := time.AfterFunc(within, l.cancel)
	l.done.Wait()
	timer.Stop()
	return l.rec.Ops()
}

func (l *Load) write(client int, store harness.Store, random *rand.Rand) {
	for n := 0; !l.full(); n++ {
		select {
		case <-l.stop:
			return
		case <-l.ctx.Done():
			return
		default:
		}
		if random.IntN(10) < 2 {
			l.head(client, store, random)
		} else {
			l.append(client, n, store, random)
		}
		l.settled.Add(1)
	}
}

func (l *Load) stream(n int) string { return fmt.Sprintf("%s%d", l.o.Prefix, n) }

func (l *Load) head(client int, store harness.Store, random *rand.Rand) {
	n := random.IntN(l.o.Streams)
	op := history.Op{Client: client, Kind: history.Head, Stream: l.stream(n), Call: l.rec.Now()}
	head, err := store.Head(l.ctx, op.Stream)
	if err != nil {
		if !harness.Unsettled(err) {
			l.t.Errorf("read the head of %s: %v", op.Stream, err)
		}
		l.rest()
		return // a read that failed says nothing
	}
	op.Version, op.Return = head.Version, l.rec.Now()
	l.rec.Add(op)
	raise(&l.heads[n], head.Version)
}

// rest keeps writers from spinning while nothing answers.
func (l *Load) rest() {
	select {
	case <-time.After(5 * time.Millisecond):
	case <-l.ctx.Done():
	}
}

func raise(v *atomic.Int64, to int64) {
	for {
		have := v.Load()
		if to <= have || v.CompareAndSwap(have, to) {
			return
		}
	}
}

func (l *Load) append(client, n int, store harness.Store, random *rand.Rand) {
	s := random.IntN(l.o.Streams)
	op := history.Op{
		Client: client, Stream: l.stream(s), Key: fmt.Sprintf("%x-%s-%d-%d", l.o.Seed, l.o.Prefix, client, n),
		Expected: expected(random, l.heads[s].Load()),
	}
	request := harness.Append{Stream: op.Stream, Expected: &op.Expected, Key: op.Key}
	for i := range 1 + random.IntN(4)*random.IntN(2) {
		e := event(random, fmt.Sprintf("%s/%d", op.Key, i))
		request.Events = append(request.Events, e)
		op.Events = append(op.Events, history.Event{ID: e.EventID, Type: e.EventType, Data: e.Body()})
	}
	op.Call = l.rec.Now()
	// Some are sent twice at once, as a client does that gave up on the first.
	twin := make(chan answer, 1)
	twins := random.IntN(20) == 0
	if twins {
		l.done.Go(func() {
			appended, _, err := harness.AppendUntilKnown(l.ctx, l.system.REST, request)
			twin <- answer{appended, err}
		})
	}
	appended, tries, err := harness.AppendUntilKnown(l.ctx, store, request)
	op.Return, op.Tries = l.rec.Now(), tries
	l.settle(&op, answer{appended, err})
	l.rec.Add(op)
	if op.Result == history.OK {
		l.acked.Add(1)
	}
	if op.Result != history.Unknown {
		raise(&l.heads[s], op.Version)
	}
	if twins {
		l.same(&op, answer{appended, err}, <-twin)
	}
	// Some are sent again after the answer.
	if random.IntN(20) == 0 && op.Result != history.Unknown {
		again, _, errAgain := harness.AppendUntilKnown(l.ctx, store, request)
		l.same(&op, answer{appended, err}, answer{again, errAgain})
	}
}

type answer struct {
	harness.Appended
	err error
}

// settle writes down what an answer says.
func (l *Load) settle(op *history.Op, a answer) {
	var problem *harness.Problem
	switch {
	case a.err == nil:
		op.Result, op.First, op.Version = history.OK, a.FirstVersion, a.NewVersion
		ids := make([]string, len(op.Events))
		for i, e := range op.Events {
			ids[i] = e.ID
		}
		if !slices.Equal(ids, a.EventIDs) {
			l.t.Errorf("event ids of the answer are %v: %v", a.EventIDs, op)
		}
	case harness.Unsettled(a.err):
		op.Result = history.Unknown
	case errors.As(a.err, &problem) && problem.Status == http.StatusPreconditionFailed && problem.ActualVersion != nil:
		op.Result, op.Version = history.Conflict, *problem.ActualVersion
	default:
		op.Result = history.Unknown
		l.t.Errorf("unexpected answer %v: %v", a.err, op)
	}
}

// same checks that a retry got the answer of the first.
func (l *Load) same(op *history.Op, first, second answer) {
	if harness.Unsettled(first.err) || harness.Unsettled(second.err) {
		return
	}
	a, b := *op, *op
	l.settle(&a, first)
	l.settle(&b, second)
	if a.Result != b.Result || a.First != b.First || a.Version != b.Version {
		l.t.Errorf("the same key got two answers: %v / %v", a, b)
	}
	if a.Result == history.OK && (first.Position != second.Position || first.WriteID != second.WriteID) {
		l.t.Errorf("the same key got two places: %+v / %+v", first.Appended, second.Appended)
	}
}

// expected chooses an expected version: mostly one that may hold.
func expected(random *rand.Rand, head int64) int64 {
	switch random.IntN(10) {
	case 0:
		return harness.NoStream
	case 1, 2:
		return harness.Any
	case 3, 4:
		return harness.StreamExists
	case 5:
		return max(0, head-random.Int64N(3)) // late
	case 6:
		return max(0, head) + 1 + random.Int64N(3) // early
	default:
		return head // may be -1
	}
}

// event makes an event; some are binary, some are large.
func event(random *rand.Rand, id string) harness.Event {
	size := random.IntN(200)
	if random.IntN(50) == 0 {
		size = 20_000
	}
	text := strings.Repeat("x", size)
	e := harness.Event{EventID: id, EventType: fmt.Sprintf("Type%d", random.IntN(3)), Tags: []string{fmt.Sprintf("tag%d", random.IntN(3))}}
	if random.IntN(10) == 0 {
		bytes := "AP8" + "=" // 0x00 0xff
		e.DataBase64 = &bytes
		return e
	}
	e.Data = json.RawMessage(fmt.Sprintf(`{"z":%d,"a":9007199254740993,"text":%q,"n": null}`, random.IntN(1000), text))
	e.Data = compact(e.Data)
	if random.IntN(4) == 0 {
		e.Metadata = json.RawMessage(`{"by":"load"}`)
	}
	return e
}

// compact leaves the order of keys and the digits of numbers alone; json.Marshal of a RawMessage compacts it too.
func compact(raw json.RawMessage) json.RawMessage {
	return json.RawMessage(strings.ReplaceAll(string(raw), `: null`, `:null`))
}

// Read reads the store through the API: every stream that starts with the prefix, and all streams.
func Read(t testing.TB, system *harness.Running, prefix string) history.Log {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	log := history.Log{Streams: map[string][]history.Recorded{}}
	heads, err := system.REST.ListStreams(ctx, prefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range heads {
		events, err := system.REST.ReadStream(ctx, h.StreamID)
		if err != nil {
			t.Fatal(err)
		}
		log.Streams[h.StreamID] = recorded(events)
		if int64(len(events)) != h.Version+1 || h.Count != h.Version+1 {
			t.Errorf("stream %s is listed at version %d with %d events, and %d were read", h.StreamID, h.Version, h.Count, len(events))
		}
	}
	all, err := system.REST.ReadAll(ctx, "stream_prefix="+prefix)
	if err != nil {
		t.Fatal(err)
	}
	log.All = recorded(all)
	return log
}

func recorded(events []harness.Recorded) []history.Recorded {
	out := make([]history.Recorded, len(events))
	for i, e := range events {
		out[i] = history.Recorded{
			Event:  history.Event{ID: e.EventID, Type: e.EventType, Data: e.Body()},
			Stream: e.StreamID, Version: e.Version, CreatedAtMs: e.CreatedAtMs,
		}
	}
	return out
}

// Check finishes the load, reads the store and checks both.
func (l *Load) Check() ([]history.Op, history.Log) {
	l.t.Helper()
	ops := l.Finish(30 * time.Second)
	log := Read(l.t, l.system, l.o.Prefix)
	results := map[history.Result]int{}
	tries := 0
	for i := range ops {
		results[ops[i].Result]++
		tries = max(tries, ops[i].Tries)
	}
	l.t.Logf("%d operations: %d ok, %d conflicts, %d unknown; %d events in %d streams; at most %d tries",
		len(ops), results[history.OK], results[history.Conflict], results[history.Unknown], len(log.All), len(slices.Collect(maps.Keys(log.Streams))), tries)
	if results[history.OK] == 0 {
		l.t.Error("nothing was acknowledged: the load shows nothing")
	}
	if err := history.CheckFinal(ops, log); err != nil {
		l.t.Errorf("the final log: %v", err)
	}
	if err := history.CheckLinearizable(ops, 60*time.Second); err != nil {
		l.t.Errorf("the history: %v", err)
	}
	return ops, log
}
