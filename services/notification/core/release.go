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
	bodies []body // Invariant: in log order, all above cursor
}

type body struct {
	offset int64
	cmd    *eventsv1.WriteCommandValidated
}

// NewFeed goes on after the notification at log offset cursor.
func NewFeed(shard int32, cursor int64) *Feed {
	return &Feed{shard: shard, cursor: cursor}
}

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
	for len(f.bodies) > 0 && f.bodies[0].offset < ack.GetLogOffset() {
		f.bodies = f.bodies[1:] // rejected, or a repetition
	}
	if len(f.bodies) == 0 || f.bodies[0].offset != ack.GetLogOffset() {
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
