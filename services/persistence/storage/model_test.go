package storage

import (
	"slices"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// model is a second, simple-minded reading of design.md: it keeps everything it
// ever saw in lists and looks through them.
type model struct {
	term, seq, request, clock int64
	window                    int64
	floor                     int64 // writes decided before it are forgotten
	appended                  []modelEvent
	deletes                   []modelDelete
	decided                   []modelWrite
}

type modelEvent struct {
	id, stream      string
	version, offset int64
}

type modelDelete struct {
	stream    string
	through   int64
	tombstone bool
}

type modelWrite struct {
	id, body string
	offset   int64
	verdict  verdict
}

// verdict is what the model says of a record.
type verdict struct {
	kind                        eventsv1.OutcomeKind
	reason                      eventsv1.RejectReason
	first, last, actual, of, at int64
	ids                         []string
	term, seq, request, offset  int64
}

func newModel() *model { return &model{term: -1, request: -1, window: 1_000_000} }

// stream gives last version ever, first visible version, and whether it is live or closed.
func (m *model) stream(name string) (last, first int64, live, closed bool) {
	last = -1
	for _, e := range m.appended {
		if e.stream == name {
			last = e.version
		}
	}
	for _, d := range m.deletes {
		if d.stream == name {
			first = d.through + 1
			closed = closed || d.tombstone
		}
	}
	return last, first, last >= first && !closed, closed
}

func (m *model) apply(offset int64, r *eventsv1.WriteCommandValidated) verdict {
	m.floor = max(m.floor, offset-m.window+1)
	v := m.decide(offset, r)
	v.term, v.seq, v.request, v.offset = m.term, m.seq, m.request, offset
	if v.kind != eventsv1.OutcomeKind_OUTCOME_KIND_DUPLICATE {
		v.at = m.clock
	}
	return v
}

func (m *model) decide(offset int64, r *eventsv1.WriteCommandValidated) verdict {
	skipped := verdict{kind: eventsv1.OutcomeKind_OUTCOME_KIND_SKIPPED, first: -1, last: -1, actual: -1, of: -1}
	control := skipped
	control.kind = eventsv1.OutcomeKind_OUTCOME_KIND_CONTROL
	if r == nil {
		return skipped
	}
	if r.Kind == eventsv1.CommandKind_COMMAND_KIND_CLAIM {
		m.term, m.seq = offset, 0
		return control
	}
	if r.Term != m.term {
		return skipped
	}
	m.seq++
	if r.Kind == eventsv1.CommandKind_COMMAND_KIND_RULES {
		m.clock = max(m.clock, r.RequestedAtMs)
		m.window = r.Rules.DedupeWindow
		return control
	}
	if r.RequestOffset <= m.request {
		return skipped
	}
	m.request = r.RequestOffset
	m.clock = max(m.clock, r.RequestedAtMs)
	for _, w := range slices.Backward(m.decided) {
		if w.id != r.WriteId || w.offset < m.floor {
			continue
		}
		again := w.verdict
		switch {
		case w.body != string(r.BodyHash):
			return rejected(eventsv1.RejectReason_REJECT_REASON_KEY_REUSED, -1)
		case again.kind == eventsv1.OutcomeKind_OUTCOME_KIND_APPLIED:
			again.kind, again.of = eventsv1.OutcomeKind_OUTCOME_KIND_DUPLICATE, w.offset
		}
		return again
	}
	v := m.fresh(offset, r)
	remembered := v
	if v.kind == eventsv1.OutcomeKind_OUTCOME_KIND_APPLIED {
		remembered.at = m.clock
	}
	m.decided = append(m.decided, modelWrite{id: r.WriteId, body: string(r.BodyHash), offset: offset, verdict: remembered})
	return v
}

func rejected(reason eventsv1.RejectReason, actual int64) verdict {
	return verdict{kind: eventsv1.OutcomeKind_OUTCOME_KIND_REJECTED, reason: reason, first: -1, last: -1, actual: actual, of: -1}
}

func (m *model) fresh(offset int64, r *eventsv1.WriteCommandValidated) verdict {
	last, first, live, closed := m.stream(r.StreamId)
	visible := int64(-1)
	if live {
		visible = last
	}
	if closed {
		return rejected(eventsv1.RejectReason_REJECT_REASON_STREAM_TOMBSTONED, -1)
	}
	ids := make([]string, 0, len(r.Events))
	for _, e := range r.Events {
		ids = append(ids, e.EventId)
	}
	var asExpected bool
	switch r.ExpectedVersion {
	case -1:
		asExpected = !live
	case -2:
		asExpected = true
	case -4:
		asExpected = live
	default:
		asExpected = last >= 0 && last == r.ExpectedVersion
	}
	wrong := rejected(eventsv1.RejectReason_REJECT_REASON_WRONG_EXPECTED_VERSION, visible)
	applied := verdict{kind: eventsv1.OutcomeKind_OUTCOME_KIND_APPLIED, actual: -1, of: -1}
	switch r.Kind {
	case eventsv1.CommandKind_COMMAND_KIND_APPEND:
		if v, decided := m.known(r, ids, first, live, visible); decided {
			return v
		}
		if !asExpected {
			return wrong
		}
		applied.first, applied.last, applied.ids = last+1, last+int64(len(ids)), ids
		for i, id := range ids {
			m.appended = append(m.appended, modelEvent{id: id, stream: r.StreamId, version: last + 1 + int64(i), offset: offset})
		}
		return applied
	case eventsv1.CommandKind_COMMAND_KIND_SOFT_DELETE:
		if !live {
			return rejected(eventsv1.RejectReason_REJECT_REASON_STREAM_NOT_FOUND, -1)
		}
	}
	if !asExpected {
		return wrong
	}
	applied.first, applied.last = first, last
	m.deletes = append(m.deletes, modelDelete{stream: r.StreamId, through: last, tombstone: r.Kind == eventsv1.CommandKind_COMMAND_KIND_TOMBSTONE})
	return applied
}

// known looks for the write's events among all that were ever appended.
func (m *model) known(r *eventsv1.WriteCommandValidated, ids []string, first int64, live bool, visible int64) (verdict, bool) {
	sorted := slices.Sorted(slices.Values(ids))
	if len(slices.Compact(sorted)) < len(ids) {
		return rejected(eventsv1.RejectReason_REJECT_REASON_EVENT_ID_EXISTS, -1), true
	}
	var places []modelEvent
	for _, id := range ids {
		for _, e := range m.appended {
			if e.id == id {
				places = append(places, e)
			}
		}
	}
	if len(places) == 0 {
		return verdict{}, false
	}
	same := len(places) == len(ids)
	for i, p := range places {
		same = same && p.stream == r.StreamId && p.version == places[0].version+int64(i)
	}
	begin := places[0].version
	switch r.ExpectedVersion {
	case -2, -4:
	case -1:
		same = same && (begin == 0 || live && begin == first)
	default:
		same = same && begin == r.ExpectedVersion+1
	}
	if !same {
		return rejected(eventsv1.RejectReason_REJECT_REASON_EVENT_ID_EXISTS, visible), true
	}
	v := verdict{kind: eventsv1.OutcomeKind_OUTCOME_KIND_DUPLICATE, first: begin, last: places[len(places)-1].version, actual: -1, ids: ids}
	v.of = places[len(places)-1].offset
	for _, w := range m.decided {
		if w.offset == v.of {
			v.at = w.verdict.at
		}
	}
	return v, true
}

func verdictOf(o *eventsv1.Outcome) verdict {
	return verdict{
		kind: o.Kind, reason: o.Reason, first: o.FirstVersion, last: o.NewVersion, actual: o.ActualVersion, of: o.DuplicateOf,
		at: o.CreatedAtMs, ids: o.EventIds, term: o.Term, seq: o.Seq, request: o.RequestOffset, offset: o.LogOffset,
	}
}
