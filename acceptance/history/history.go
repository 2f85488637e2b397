// Package history records what clients saw and checks it: that it is linearizable
// per stream, and that the final log holds what was acknowledged and nothing else.
//
// The idea is that of etcd's robustness tests
// (https://github.com/etcd-io/etcd/tree/main/tests/robustness); the search is
// porcupine's (https://github.com/anishathalye/porcupine).
package history

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind of an operation.
type Kind int

// Kinds.
const (
	Append Kind = iota // with an expected version
	Head               // a read of a stream's version
)

// Result of an operation.
type Result int

// Results.
const (
	// OK: an append is at First to Version; a head is Version (-1: no stream).
	OK Result = iota
	// Conflict: an append was refused because the stream is at Version (-1: no stream).
	Conflict
	// Unknown: no answer; the append may or may not have happened, or may still.
	Unknown
)

// Event as sent.
type Event struct {
	ID, Type string
	Data     []byte
}

// Op is one operation of one client. Retries with the same key are one operation,
// from the first call to the answer that settles it.
type Op struct {
	Client   int
	Kind     Kind
	Stream   string
	Key      string
	Expected int64
	Events   []Event

	// Call and Return are times of one clock, in nanoseconds. Return is ignored for Unknown.
	Call, Return int64

	Result         Result
	First, Version int64
	Tries          int
}

// String describes the operation in one line.
func (o Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "client %d [%.3f ms, %.3f ms] ", o.Client, float64(o.Call)/1e6, float64(o.Return)/1e6)
	if o.Kind == Head {
		fmt.Fprintf(&b, "head of %s: %d", o.Stream, o.Version)
		return b.String()
	}
	fmt.Fprintf(&b, "append %d to %s expecting %d (key %s, %d tries): ", len(o.Events), o.Stream, o.Expected, o.Key, o.Tries)
	switch o.Result {
	case OK:
		fmt.Fprintf(&b, "at %d to %d", o.First, o.Version)
	case Conflict:
		fmt.Fprintf(&b, "conflict, actual %d", o.Version)
	case Unknown:
		b.WriteString("unknown")
	}
	return b.String()
}

// Recorder collects operations of many clients. It is safe for concurrent use.
type Recorder struct {
	began time.Time

	mu  sync.Mutex
	ops []Op
}

// NewRecorder starts the clock.
func NewRecorder() *Recorder { return &Recorder{began: time.Now()} }

// Now is the recorder's clock.
func (r *Recorder) Now() int64 { return int64(time.Since(r.began)) }

// Add takes an operation that ended.
func (r *Recorder) Add(o Op) {
	if o.Result == Unknown {
		o.Return = math.MaxInt64
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, o)
}

// Ops is what was recorded, in the order of the calls.
func (r *Recorder) Ops() []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	ops := slices.Clone(r.ops)
	slices.SortFunc(ops, func(a, b Op) int { return int(min(max(a.Call-b.Call, -1), 1)) })
	return ops
}
