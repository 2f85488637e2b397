// Package core applies the log: it decides what each record comes to. It is
// pure (no I/O of its own, no clock, goroutine, context or logger), so every
// replica that applies the same records reaches the same outcomes, versions and
// rejections, whatever its batches were. design.md, sections 4 and 5, has the rules.
package core

import (
	"bytes"
	"fmt"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"github.com/exesdb/exesdb/shared/claim"
)

// sweepPerRecord bounds the cost of a shrunk dedupe window: at most so many old
// offsets are looked at per applied record.
const sweepPerRecord = 64

// Command is one record of the log.
type Command struct {
	Offset int64
	// RecordHash is the hash of the raw record.
	RecordHash uint64
	// Record is the decoded value; nil when it could not be decoded.
	Record *eventsv1.WriteCommandValidated
	// Undecodable says why Record is nil.
	Undecodable string
}

// Changes are what a command did; a store that keeps them all at Outcome's
// offset, and an Overlay, are Views for the next command.
type Changes struct {
	// Outcome is never nil after an Apply without error.
	Outcome *eventsv1.Outcome
	// Events were appended to Outcome.StreamId at Outcome.FirstVersion and on.
	Events []*eventsv1.NewEvent
	// Head replaces that of Outcome.StreamId when HeadChanged.
	Head        Head
	HeadChanged bool
	// Forget are write ids whose entries leave, before Write enters.
	Forget []string
	// Write is to be remembered under Outcome.WriteId when Remember.
	Write    Write
	Remember bool
}

// Apply decides one record. It returns the next state and the changes, or an
// error and the state as it was: *GapError, *OrderError, *RulesError,
// *MissingError or an error of the view. After an error the shard halts.
func Apply(before State, cmd Command, view View) (State, Changes, error) {
	if cmd.Offset <= before.Applied {
		return before, Changes{}, &OrderError{Offset: cmd.Offset, Applied: before.Applied}
	}
	a := &application{
		state: before,
		view:  view,
		out: &eventsv1.Outcome{
			LogOffset:      cmd.Offset,
			PreviousOffset: before.Applied,
			FirstVersion:   -1,
			NewVersion:     -1,
			ActualVersion:  -1,
			DuplicateOf:    -1,
		},
	}
	a.state.Applied = cmd.Offset
	a.state.RecordHash = cmd.RecordHash
	a.ch.Outcome = a.out
	if err := a.forget(before); err != nil {
		return before, Changes{}, err
	}
	if err := a.record(cmd); err != nil {
		return before, Changes{}, err
	}
	o := a.out
	o.Term, o.Seq, o.RequestOffset = a.state.Term, a.state.Seq, a.state.RequestOffset
	if o.Kind != eventsv1.OutcomeKind_OUTCOME_KIND_DUPLICATE { // that has the time of what it repeats
		o.CreatedAtMs = a.state.TimeMS
	}
	o.OutcomeHash = Chain(before.OutcomeHash, o)
	a.state.OutcomeHash = o.OutcomeHash
	return a.state, a.ch, nil
}

// application is one Apply under way.
type application struct {
	state State
	view  View
	out   *eventsv1.Outcome
	ch    Changes
}

// forget moves the dedupe window up to this offset and sweeps what left it.
func (a *application) forget(before State) error {
	s := &a.state
	if below := s.Applied - s.Rules.DedupeWindow + 1; below > s.ForgottenBelow {
		s.ForgottenBelow = below
	}
	end := min(s.ForgottenBelow, s.SweptBelow+sweepPerRecord)
	for ; s.SweptBelow < end; s.SweptBelow++ {
		old, found, err := a.view.Outcome(s.SweptBelow)
		if err != nil {
			return err
		}
		if !found || old.WriteId == "" || old.Kind == eventsv1.OutcomeKind_OUTCOME_KIND_SKIPPED {
			continue
		}
		// An applied write that was known until this record has its own entry.
		// Others may have none, or a later write has taken the id since.
		if old.Kind != eventsv1.OutcomeKind_OUTCOME_KIND_APPLIED || s.SweptBelow < before.ForgottenBelow {
			w, found, err := a.view.Write(old.WriteId)
			if err != nil {
				return err
			}
			if !found || w.Offset != s.SweptBelow {
				continue
			}
		}
		a.ch.Forget = append(a.ch.Forget, old.WriteId)
	}
	return nil
}

// record is the rules of the log itself: claims, terms, places and requests.
func (a *application) record(cmd Command) error {
	r := cmd.Record
	if r == nil {
		a.skip("undecodable: " + cmd.Undecodable)
		return nil
	}
	if r.Kind == eventsv1.CommandKind_COMMAND_KIND_UNSPECIFIED {
		// Bytes that happen to decode: they are no command of any owner, so they must not look like a gap in a term.
		a.skip("the record is no command")
		return nil
	}
	a.out.Command = r.Kind
	a.out.StreamId = r.StreamId
	a.out.WriteId = r.WriteId
	a.out.ReplyTo = r.ReplyTo
	a.out.ExpectedVersion = r.ExpectedVersion

	// The same fence that the store and the notification service read the log with.
	fence := claim.Fence{Term: a.state.Term, Seq: a.state.Seq, RequestOffset: a.state.RequestOffset}
	verdict, err := fence.Admit(cmd.Offset, r)
	if err != nil {
		return err
	}
	a.state.Term, a.state.Seq, a.state.RequestOffset = fence.Term, fence.Seq, fence.RequestOffset
	switch {
	case verdict == claim.Stale:
		a.skip(fmt.Sprintf("term %d, the newest claim is %d", r.Term, a.state.Term))
		return nil
	case verdict == claim.Repeated:
		a.skip(fmt.Sprintf("seq %d, request offset %d: counted through seq %d, request offset %d", r.Seq, r.RequestOffset, a.state.Seq, a.state.RequestOffset))
		return nil
	case r.Kind == eventsv1.CommandKind_COMMAND_KIND_CLAIM:
		a.out.Kind = eventsv1.OutcomeKind_OUTCOME_KIND_CONTROL
		return nil
	case r.Kind == eventsv1.CommandKind_COMMAND_KIND_RULES:
		return a.rules(r)
	}
	a.state.TimeMS = max(a.state.TimeMS, r.RequestedAtMs)
	return a.write(r)
}

// rules changes the apply rules from the next record on.
func (a *application) rules(r *eventsv1.WriteCommandValidated) error {
	a.state.TimeMS = max(a.state.TimeMS, r.RequestedAtMs)
	n := r.Rules
	if n.GetVersion() > RulesVersion {
		return &RulesError{Offset: a.state.Applied, Want: n.GetVersion(), Known: RulesVersion}
	}
	if n.GetVersion() < 1 || n.DedupeWindow < 1 || n.MaxEventBytes < 1 || n.MaxWriteBytes < 1 || n.MaxWriteEvents < 1 {
		a.reject(eventsv1.RejectReason_REJECT_REASON_INVALID, "every apply rule must be at least 1")
		return nil
	}
	a.state.Rules = Rules{
		Version: n.Version, DedupeWindow: n.DedupeWindow,
		MaxEventBytes: n.MaxEventBytes, MaxWriteBytes: n.MaxWriteBytes, MaxWriteEvents: n.MaxWriteEvents,
	}
	a.out.Kind = eventsv1.OutcomeKind_OUTCOME_KIND_CONTROL
	return nil
}

// write is a command of a client: known writes first, then what must hold, then the effect.
func (a *application) write(r *eventsv1.WriteCommandValidated) error {
	if !named(r.WriteId) {
		a.reject(eventsv1.RejectReason_REJECT_REASON_INVALID, "the write_id is empty, too long or has a NUL")
		return nil
	}
	known, found, err := a.view.Write(r.WriteId)
	if err != nil {
		return err
	}
	if found && known.Offset >= a.state.ForgottenBelow {
		return a.repeat(r, known)
	}
	a.ch.Remember = true
	a.ch.Write = Write{Offset: a.state.Applied, BodyHash: r.BodyHash}

	if reason, message := check(r, a.state.Rules); reason != eventsv1.RejectReason_REJECT_REASON_UNSPECIFIED {
		a.reject(reason, message)
		return nil
	}
	head, found, err := a.view.Head(r.StreamId)
	if err != nil {
		return err
	}
	if !found {
		head = NoHead()
	}
	if head.State == Tombstoned {
		a.reject(eventsv1.RejectReason_REJECT_REASON_STREAM_TOMBSTONED, "the stream was deleted for good")
		return nil
	}
	switch r.Kind {
	case eventsv1.CommandKind_COMMAND_KIND_APPEND:
		return a.append(r, head)
	case eventsv1.CommandKind_COMMAND_KIND_SOFT_DELETE:
		if head.State != Live {
			a.reject(eventsv1.RejectReason_REJECT_REASON_STREAM_NOT_FOUND, "there is no such stream")
			return nil
		}
		a.delete(r, head, Deleted)
	case eventsv1.CommandKind_COMMAND_KIND_TOMBSTONE:
		a.delete(r, head, Tombstoned)
	}
	return nil
}

// repeat answers a write_id that is known.
func (a *application) repeat(r *eventsv1.WriteCommandValidated, known Write) error {
	if !bytes.Equal(known.BodyHash, r.BodyHash) {
		a.reject(eventsv1.RejectReason_REJECT_REASON_KEY_REUSED, "the write_id was used with another body")
		return nil
	}
	recorded, found, err := a.view.Outcome(known.Offset)
	if err != nil {
		return err
	}
	if !found {
		return &MissingError{What: fmt.Sprintf("the outcome at log offset %d, which write %q refers to", known.Offset, r.WriteId)}
	}
	if recorded.Kind == eventsv1.OutcomeKind_OUTCOME_KIND_REJECTED {
		a.out.ActualVersion = recorded.ActualVersion
		a.reject(recorded.Reason, recorded.Message)
		return nil
	}
	a.duplicate(recorded)
	return nil
}

// duplicate gives a recorded success again.
func (a *application) duplicate(recorded *eventsv1.Outcome) {
	a.out.Kind = eventsv1.OutcomeKind_OUTCOME_KIND_DUPLICATE
	a.out.FirstVersion = recorded.FirstVersion
	a.out.NewVersion = recorded.NewVersion
	a.out.EventIds = recorded.EventIds
	a.out.CreatedAtMs = recorded.CreatedAtMs
	a.out.DuplicateOf = recorded.LogOffset
	if recorded.Kind == eventsv1.OutcomeKind_OUTCOME_KIND_DUPLICATE {
		a.out.DuplicateOf = recorded.DuplicateOf
	}
}

// append adds all events of the write or none.
func (a *application) append(r *eventsv1.WriteCommandValidated, head Head) error {
	done, err := a.existing(r, head)
	if err != nil || done {
		return err
	}
	if !accepts(r.ExpectedVersion, head) {
		a.wrongVersion(r.ExpectedVersion, head)
		return nil
	}
	ids := make([]string, len(r.Events))
	for i, e := range r.Events {
		ids[i] = e.EventId
	}
	a.out.Kind = eventsv1.OutcomeKind_OUTCOME_KIND_APPLIED
	a.out.FirstVersion = head.Version + 1
	a.out.NewVersion = head.Version + int64(len(r.Events))
	a.out.EventIds = ids
	a.ch.Events = r.Events
	head.State = Live
	head.Version = a.out.NewVersion
	a.ch.Head, a.ch.HeadChanged = head, true
	return nil
}

// delete hides all events through the head. Versions go on after it.
func (a *application) delete(r *eventsv1.WriteCommandValidated, head Head, to StreamState) {
	if !accepts(r.ExpectedVersion, head) {
		a.wrongVersion(r.ExpectedVersion, head)
		return
	}
	a.out.Kind = eventsv1.OutcomeKind_OUTCOME_KIND_APPLIED
	a.out.FirstVersion = head.FirstVersion
	a.out.NewVersion = head.Version
	head.State = to
	head.FirstVersion = head.Version + 1
	a.ch.Head, a.ch.HeadChanged = head, true
}

// existing looks for the events of an append in the store: the same events at
// the same place are a success, whatever became of the write_id. It reports
// whether that decided the outcome.
func (a *application) existing(r *eventsv1.WriteCommandValidated, head Head) (bool, error) {
	if id, repeats := repeated(r.Events); repeats {
		a.reject(eventsv1.RejectReason_REJECT_REASON_EVENT_ID_EXISTS, fmt.Sprintf("event id %q occurs twice in the write", id))
		return true, nil
	}
	var first, last Place
	exist, inOrder, id := 0, true, ""
	for i, e := range r.Events {
		p, found, err := a.view.Event(e.EventId)
		if err != nil {
			return false, err
		}
		if !found {
			continue
		}
		if exist == 0 {
			first, id = p, e.EventId
		}
		exist++
		last = p
		inOrder = inOrder && p.Stream == r.StreamId && p.Version == first.Version+int64(i)
	}
	if exist == 0 {
		return false, nil
	}
	if exist < len(r.Events) || !inOrder || !placed(r.ExpectedVersion, first.Version, head) {
		a.out.ActualVersion = head.Visible()
		a.reject(eventsv1.RejectReason_REJECT_REASON_EVENT_ID_EXISTS, fmt.Sprintf("event id %q exists", id))
		return true, nil
	}
	recorded, found, err := a.view.Outcome(last.Offset)
	if err != nil {
		return false, err
	}
	if !found {
		return false, &MissingError{What: fmt.Sprintf("the outcome at log offset %d, which event %q refers to", last.Offset, id)}
	}
	a.duplicate(recorded)
	a.out.FirstVersion, a.out.NewVersion = first.Version, last.Version
	a.out.EventIds = make([]string, len(r.Events))
	for i, e := range r.Events {
		a.out.EventIds[i] = e.EventId
	}
	return true, nil
}

func (a *application) skip(message string) {
	a.out.Kind = eventsv1.OutcomeKind_OUTCOME_KIND_SKIPPED
	a.out.Message = message
}

func (a *application) reject(reason eventsv1.RejectReason, message string) {
	a.out.Kind = eventsv1.OutcomeKind_OUTCOME_KIND_REJECTED
	a.out.Reason = reason
	a.out.Message = message
}

func (a *application) wrongVersion(expected int64, head Head) {
	a.out.ActualVersion = head.Visible()
	a.reject(eventsv1.RejectReason_REJECT_REASON_WRONG_EXPECTED_VERSION,
		fmt.Sprintf("expected version %d, the stream is at %d", expected, head.Visible()))
}
