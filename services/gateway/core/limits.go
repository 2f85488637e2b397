// Package core holds the gateway's decisions, free of I/O, clock and goroutines:
// what a valid request is, who waits for which answer, how far reads must have
// come, and how the pages of several shards make one.
package core

// Expected versions with a meaning of their own; 0 and more are exact.
const (
	NoStream     int64 = -1
	Any          int64 = -2
	StreamExists int64 = -4
)

// Limits of requests.
type Limits struct {
	// EventBytes bounds one event: data, metadata, id, type and tags together.
	EventBytes int
	// WriteBytes bounds all events of a write together. With what encodes them it
	// stays below the largest record of the bus, 8 MiB.
	WriteBytes int
	// WriteEvents bounds the events of a write.
	WriteEvents int
	// PageBytes bounds one page of a read.
	PageBytes int64
}

// Limits that hold whatever the settings.
const (
	MaxStreamID    = 255 // bytes
	MaxEventType   = 255 // bytes
	MaxEventID     = 255 // bytes
	MaxTag         = 255 // bytes
	MaxTags        = 64  // per event
	MaxKey         = 255 // bytes of an idempotency key
	DefaultPage    = 100 // events or streams
	MaxPage        = 4096
	MaxFilterTerms = 64 // event types or tags of one read
)

// DefaultLimits are 1 MiB per event, 4 MiB or 1,000 events per write, 4 MiB per page.
func DefaultLimits() Limits {
	return Limits{EventBytes: 1 << 20, WriteBytes: 4 << 20, WriteEvents: 1000, PageBytes: 4 << 20}
}
