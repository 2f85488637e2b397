package core

import (
	"fmt"
	"strings"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// MaxNameBytes bounds stream ids, write ids, event ids, event types and tags,
// because they become keys of the store.
const MaxNameBytes = 4096

// EventBytes is what an event counts against the limits: data and metadata.
func EventBytes(e *eventsv1.NewEvent) int64 { return int64(len(e.Data)) + int64(len(e.Metadata)) }

// check is what a write must fulfil whatever the store holds. An unspecified
// reason is no objection.
func check(r *eventsv1.WriteCommandValidated, rules Rules) (eventsv1.RejectReason, string) {
	const (
		fine     = eventsv1.RejectReason_REJECT_REASON_UNSPECIFIED
		invalid  = eventsv1.RejectReason_REJECT_REASON_INVALID
		tooLarge = eventsv1.RejectReason_REJECT_REASON_TOO_LARGE
	)
	switch r.Kind {
	case eventsv1.CommandKind_COMMAND_KIND_APPEND:
		if len(r.Events) == 0 {
			return invalid, "an append needs at least one event"
		}
	case eventsv1.CommandKind_COMMAND_KIND_SOFT_DELETE, eventsv1.CommandKind_COMMAND_KIND_TOMBSTONE:
		if len(r.Events) > 0 {
			return invalid, "a delete has no events"
		}
	default:
		return invalid, fmt.Sprintf("command kind %d is not known", int32(r.Kind))
	}
	if !named(r.StreamId) {
		return invalid, "the stream id is empty, too long or has a NUL"
	}
	if e := r.ExpectedVersion; e < 0 && e != ExpectNoStream && e != ExpectAny && e != ExpectExists {
		return invalid, fmt.Sprintf("expected version %d: want n >= 0, -1, -2 or -4", e)
	}
	if int64(len(r.Events)) > int64(rules.MaxWriteEvents) {
		return tooLarge, fmt.Sprintf("%d events in one write, the limit is %d", len(r.Events), rules.MaxWriteEvents)
	}
	var total int64
	for i, e := range r.Events {
		if e == nil || !named(e.EventId) || !named(e.EventType) {
			return invalid, fmt.Sprintf("event %d: its id or type is empty, too long or has a NUL", i)
		}
		for _, tag := range e.Tags {
			if !named(tag) {
				return invalid, fmt.Sprintf("event %d: a tag is empty, too long or has a NUL", i)
			}
		}
		n := EventBytes(e)
		if n > rules.MaxEventBytes {
			return tooLarge, fmt.Sprintf("event %d has %d bytes, the limit is %d", i, n, rules.MaxEventBytes)
		}
		total += n
	}
	if total > rules.MaxWriteBytes {
		return tooLarge, fmt.Sprintf("the write has %d bytes, the limit is %d", total, rules.MaxWriteBytes)
	}
	return fine, ""
}

func named(s string) bool {
	return s != "" && len(s) <= MaxNameBytes && strings.IndexByte(s, 0) < 0
}

// repeated finds an event id that occurs twice in a write.
func repeated(events []*eventsv1.NewEvent) (string, bool) {
	if len(events) <= 8 { // cheaper than a map
		for i, e := range events {
			for _, f := range events[:i] {
				if e.EventId == f.EventId {
					return e.EventId, true
				}
			}
		}
		return "", false
	}
	seen := make(map[string]struct{}, len(events))
	for _, e := range events {
		if _, twice := seen[e.EventId]; twice {
			return e.EventId, true
		}
		seen[e.EventId] = struct{}{}
	}
	return "", false
}
