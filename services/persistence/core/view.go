package core

import (
	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// StreamState says whether a stream can be read and written. The zero value is
// a stream that never existed. The numbers are part of the storage format.
type StreamState uint8

// The states of a stream.
const (
	None       StreamState = 0
	Live       StreamState = 1
	Deleted    StreamState = 2
	Tombstoned StreamState = 3
)

// Head is all that a write needs to know of a stream.
type Head struct {
	State StreamState
	// Version of the newest event ever, also of a deleted one; -1 is none.
	// Invariant: it never goes back, so a (stream, version) pair is used once.
	Version int64
	// FirstVersion is the first version that can be read; those before it are
	// hidden by a delete. Invariant: 0 <= FirstVersion <= Version+1.
	FirstVersion int64
}

// NoHead is the head of a stream that never existed.
func NoHead() Head { return Head{Version: -1} }

// Visible is the version that a client sees: -1 unless the stream is live.
func (h Head) Visible() int64 {
	if h.State == Live {
		return h.Version
	}
	return -1
}

// Write is the memory of a write_id. What came of the write is the outcome at Offset.
type Write struct {
	Offset   int64
	BodyHash []byte
}

// Place is where an event is.
type Place struct {
	Stream  string
	Version int64
	// Offset of the event's write in the log.
	Offset int64
}

// View reads what the commands before this one have left. Each method reads one
// key; found is false when there is none. An error halts the shard.
type View interface {
	Head(stream string) (h Head, found bool, err error)
	Write(writeID string) (w Write, found bool, err error)
	Event(eventID string) (p Place, found bool, err error)
	// Outcome at a log offset; the caller does not change it.
	Outcome(offset int64) (o *eventsv1.Outcome, found bool, err error)
}
