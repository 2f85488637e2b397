// Package core holds the store's decisions, free of I/O: which requests become
// commands, and when an outcome is acknowledged.
package core

import (
	"fmt"
	"unicode/utf8"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// MaxStreamID is the longest stream id in bytes.
const MaxStreamID = 255

// Validate turns a request into a command, or says why not. It is a pure
// function of the request and its offset: a second look, by this owner or the
// next, gives the same answer. Versions and limits are judged where the log is
// applied, because they depend on what the log says.
func Validate(req *eventsv1.StreamWriteRequested, requestOffset int64) (*eventsv1.WriteCommandValidated, *eventsv1.WriteRejected) {
	if problem := structure(req); problem != "" {
		return nil, &eventsv1.WriteRejected{
			StreamId: req.GetStreamId(), WriteId: req.GetWriteId(), ReplyTo: req.GetReplyTo(),
			Reason: eventsv1.RejectReason_REJECT_REASON_INVALID, Message: problem,
			ExpectedVersion: req.GetExpectedVersion(), ActualVersion: -1, LogOffset: -1, PreviousRejectedOffset: -1,
		}
	}
	return &eventsv1.WriteCommandValidated{
		StreamId: req.GetStreamId(), Events: req.GetEvents(), WriteId: req.GetWriteId(),
		ExpectedVersion: req.GetExpectedVersion(), Kind: req.GetKind(), BodyHash: req.GetBodyHash(),
		RequestedAtMs: req.GetRequestedAtMs(), ReplyTo: req.GetReplyTo(), RequestOffset: requestOffset,
	}, nil
}

func structure(req *eventsv1.StreamWriteRequested) string {
	switch {
	case req.GetStreamId() == "" || len(req.GetStreamId()) > MaxStreamID || !utf8.ValidString(req.GetStreamId()):
		return fmt.Sprintf("stream id has %d bytes: want 1 to %d bytes of UTF-8", len(req.GetStreamId()), MaxStreamID)
	case req.GetWriteId() == "":
		return "write id is empty"
	case req.GetExpectedVersion() < -4 || req.GetExpectedVersion() == -3:
		return fmt.Sprintf("expected version %d: want -4, -2, -1 or 0 and more", req.GetExpectedVersion())
	}
	switch req.GetKind() {
	case eventsv1.CommandKind_COMMAND_KIND_APPEND:
		if len(req.GetEvents()) == 0 {
			return "an append needs at least one event"
		}
		for i, e := range req.GetEvents() {
			if e.GetEventId() == "" || e.GetEventType() == "" {
				return fmt.Sprintf("event %d has no event_id or no event_type", i)
			}
		}
	case eventsv1.CommandKind_COMMAND_KIND_SOFT_DELETE, eventsv1.CommandKind_COMMAND_KIND_TOMBSTONE:
		if len(req.GetEvents()) != 0 {
			return "a delete has no events"
		}
	default:
		return fmt.Sprintf("kind %v is not a write", req.GetKind())
	}
	return ""
}
