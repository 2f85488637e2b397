// Package core decides what the notification service publishes. It is pure.
package core

import (
	"fmt"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Feed joins bodies from the log with acknowledgements: each acknowledged write
// becomes one notification, in log order.
type Feed struct {
	shard  int32
	cursor int64  // log offset of the newest notification; -1 is none
	seen   int64  // every acknowledgement up to this log offset was taken, or its write read from history
	at     int64  // offset of the newest acknowledgement taken in its topic; -1 is none
	fresh  bool   // no acknowledgement was taken yet
	bodies []body // Invariant: in log order, all above cursor
}

type body struct {
	offset int64
	cmd    *eventsv1.WriteCommandValidated
}

// Unknown is the log offset of the last notification when all of the feed has expired.
const Unknown int64 = -2

// NewFeed goes on after the notification at log offset cursor, which was published when the
// acknowledgement at offset at of its topic had been taken.
func NewFeed(shard int32, cursor, at int64) *Feed {
	return &Feed{shard: shard, cursor: cursor, seen: cursor, at: at, fresh: true}
}

// Link says how an acknowledgement stands to those before it.
type Link int

// Links.
const (
	Next     Link = iota
	Repeated      // it was taken before
	Missed        // some before it were not seen: they are no longer in the topic
)

// Observe tells what an acknowledgement follows. The first should be the one that the last notification
// came from: then nothing lies between the two. Take must follow unless it is Repeated.
func (f *Feed) Observe(ack *eventsv1.WriteAcknowledged, at int64) Link {
	if f.fresh {
		f.fresh = false
		switch {
		case f.cursor == Unknown: // what is older than the oldest acknowledgement has expired with the feed
			f.cursor = ack.GetPreviousAcknowledgedOffset()
			f.seen = f.cursor
		case at == f.at && ack.GetLogOffset() <= f.cursor:
			f.seen = ack.GetLogOffset()
		}
	}
	switch {
	case ack.GetLogOffset() <= f.seen:
		return Repeated
	case ack.GetPreviousAcknowledgedOffset() > f.seen:
		return Missed
	default:
		return Next
	}
}

// Take says that the acknowledgement, and all before it, were handled.
func (f *Feed) Take(ack *eventsv1.WriteAcknowledged, at int64) {
	f.seen, f.at = max(f.seen, ack.GetLogOffset()), at
}

// Cursor is the log offset of the newest notification; -1 is none.
func (f *Feed) Cursor() int64 { return f.cursor }

// Body takes a record of the log.
func (f *Feed) Body(offset int64, cmd *eventsv1.WriteCommandValidated) {
	if offset > f.cursor && cmd.GetKind() == eventsv1.CommandKind_COMMAND_KIND_APPEND {
		f.bodies = append(f.bodies, body{offset, cmd})
	}
}

// MissingBodyError says that the log no longer has the body of an acknowledged write.
type MissingBodyError struct {
	Shard     int32
	LogOffset int64
}

func (e *MissingBodyError) Error() string {
	return fmt.Sprintf("shard %d: the log has no body at offset %d, which was acknowledged", e.Shard, e.LogOffset)
}

// Wants tells whether an acknowledgement becomes a notification: it is new, and
// an append that is no repetition of an earlier one.
func (f *Feed) Wants(ack *eventsv1.WriteAcknowledged) bool {
	return ack.GetLogOffset() > f.cursor && ack.GetDuplicateOf() < 0 &&
		ack.GetCommand() == eventsv1.CommandKind_COMMAND_KIND_APPEND
}

// Release makes the notification of an acknowledgement that Wants; the log must
// have been read through its offset. acknowledgedAt is the acknowledgement's own offset.
func (f *Feed) Release(ack *eventsv1.WriteAcknowledged, acknowledgedAt int64) (*eventsv1.NotificationTriggered, error) {
	if !f.has(ack.GetLogOffset()) {
		return nil, &MissingBodyError{f.shard, ack.GetLogOffset()}
	}
	cmd := f.bodies[0].cmd
	f.bodies = f.bodies[1:]
	n := &eventsv1.NotificationTriggered{
		StreamId: ack.GetStreamId(), WriteId: ack.GetWriteId(), LogOffset: ack.GetLogOffset(),
		PreviousOffset: f.cursor, AcknowledgedAt: acknowledgedAt,
		Events: make([]*eventsv1.RecordedEvent, len(cmd.GetEvents())),
	}
	for i, e := range cmd.GetEvents() {
		n.Events[i] = &eventsv1.RecordedEvent{
			EventId: e.GetEventId(), EventType: e.GetEventType(), StreamId: ack.GetStreamId(),
			Version: ack.GetFirstVersion() + int64(i), Data: e.GetData(), Binary: e.GetBinary(),
			Metadata: e.GetMetadata(), Tags: e.GetTags(), CreatedAtMs: ack.GetCreatedAtMs(),
			Shard: f.shard, LogOffset: ack.GetLogOffset(), Index: int32(i), //nolint:gosec // a write has at most thousands of events
		}
	}
	f.cursor = ack.GetLogOffset()
	return n, nil
}

// has drops the bodies before offset (rejected, or a repetition) and tells whether the one at offset is there.
func (f *Feed) has(offset int64) bool {
	for len(f.bodies) > 0 && f.bodies[0].offset < offset {
		f.bodies = f.bodies[1:]
	}
	return len(f.bodies) > 0 && f.bodies[0].offset == offset
}

// Recorded makes the notification of a write that was read from history: its acknowledgement or its body is gone.
// It has the id of the write only if the log still has the body.
func (f *Feed) Recorded(events []*eventsv1.RecordedEvent) *eventsv1.NotificationTriggered {
	n := &eventsv1.NotificationTriggered{
		StreamId: events[0].GetStreamId(), LogOffset: events[0].GetLogOffset(), Events: events,
		// Whoever resumes from this one reads again from before what is missing.
		PreviousOffset: f.cursor, AcknowledgedAt: f.at,
	}
	if f.has(n.GetLogOffset()) {
		n.WriteId = f.bodies[0].cmd.GetWriteId()
		f.bodies = f.bodies[1:]
	}
	f.cursor = n.GetLogOffset()
	return n
}

// Lose passes over a write whose events are nowhere any more. The next notification names it as the one before,
// so that consumers notice.
func (f *Feed) Lose(offset int64) { f.cursor = max(f.cursor, offset) }
