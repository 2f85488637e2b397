package history

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Recorded is an event as the store gives it.
type Recorded struct {
	Event
	Stream      string
	Version     int64
	CreatedAtMs int64
}

// Log is everything that the store holds, as read through its API.
type Log struct {
	// Streams are whole, each in the order in which it was read.
	Streams map[string][]Recorded
	// All is the read of all streams.
	All []Recorded
}

// mostProblems bounds what CheckFinal reports.
const mostProblems = 20

// CheckFinal checks the log against what clients saw: no gap, no event twice, every
// acknowledged event at its version with its bytes, nothing that nobody sent and
// nothing of a refused write, times that do not go back, and the same in both reads.
// Writes of unknown outcome are there whole or not at all.
func CheckFinal(ops []Op, log Log) error {
	c := &checker{sent: map[string]place{}}
	c.operations(ops)
	found := c.streams(log)
	c.acknowledged(ops, log)
	c.whole(ops, found)
	c.all(log)
	return errors.Join(c.problems...)
}

// place is where an event was sent.
type place struct {
	op    *Op
	index int
}

type checker struct {
	sent     map[string]place
	problems []error
}

func (c *checker) problem(format string, args ...any) {
	if len(c.problems) < mostProblems {
		c.problems = append(c.problems, fmt.Errorf(format, args...))
	}
}

func (c *checker) operations(ops []Op) {
	for i := range ops {
		for n, e := range ops[i].Events {
			if _, twice := c.sent[e.ID]; twice {
				c.problem("the test itself sent event %s twice", e.ID)
			}
			c.sent[e.ID] = place{&ops[i], n}
		}
	}
}

// streams checks each stream for itself and returns the place of every event.
func (c *checker) streams(log Log) map[string]Recorded {
	found := map[string]Recorded{}
	for _, stream := range slices.Sorted(maps.Keys(log.Streams)) {
		before := int64(0)
		for i, e := range log.Streams[stream] {
			if e.Version != int64(i) {
				c.problem("stream %s: event %s, the %dth that was read, has version %d", stream, e.ID, i, e.Version)
			}
			if e.Stream != stream {
				c.problem("stream %s: event %s says that it is of stream %s", stream, e.ID, e.Stream)
			}
			if e.CreatedAtMs < before {
				c.problem("stream %s: version %d was made at %d, before the one before it (%d)", stream, e.Version, e.CreatedAtMs, before)
			}
			before = e.CreatedAtMs
			if old, twice := found[e.ID]; twice {
				c.problem("event %s is twice in the store: at %s/%d and at %s/%d", e.ID, old.Stream, old.Version, stream, e.Version)
			}
			found[e.ID] = e
			c.event(e)
		}
	}
	return found
}

// event checks that one event is what somebody sent, and may be there.
func (c *checker) event(e Recorded) {
	from, ok := c.sent[e.ID]
	if !ok {
		c.problem("stream %s version %d: nobody sent event %s", e.Stream, e.Version, e.ID)
		return
	}
	want := from.op.Events[from.index]
	if from.op.Stream != e.Stream || want.Type != e.Type || !bytes.Equal(want.Data, e.Data) {
		c.problem("stream %s version %d: event %s is %s %q, sent was %s %q to %s", e.Stream, e.Version, e.ID, e.Type, shorten(e.Data), want.Type, shorten(want.Data), from.op.Stream)
	}
	if from.op.Result == Conflict {
		c.problem("stream %s version %d: event %s is there, but its write was refused: %v", e.Stream, e.Version, e.ID, from.op)
	}
}

func (c *checker) acknowledged(ops []Op, log Log) {
	for i := range ops {
		op := &ops[i]
		if op.Kind != Append || op.Result != OK {
			continue
		}
		stream := log.Streams[op.Stream]
		for n, e := range op.Events {
			at := op.First + int64(n)
			switch {
			case at < 0 || at >= int64(len(stream)):
				c.problem("lost: event %s was acknowledged at %s/%d, and the stream ends at %d: %v", e.ID, op.Stream, at, len(stream)-1, op)
			case stream[at].ID != e.ID:
				c.problem("lost: event %s was acknowledged at %s/%d, where %s is: %v", e.ID, op.Stream, at, stream[at].ID, op)
			}
		}
	}
}

// whole checks that a write is there with all its events, side by side, or with none.
func (c *checker) whole(ops []Op, found map[string]Recorded) {
	for i := range ops {
		op := &ops[i]
		there, inOrder := 0, true
		for n, e := range op.Events {
			r, ok := found[e.ID]
			if ok {
				there++
				inOrder = inOrder && r.Version == found[op.Events[0].ID].Version+int64(n)
			}
		}
		if there != 0 && (there != len(op.Events) || !inOrder) {
			c.problem("torn: %d of %d events of a write are in the store, in order: %v: %v", there, len(op.Events), inOrder, op)
		}
	}
}

// all compares the read of all streams with the reads of each.
func (c *checker) all(log Log) {
	next := map[string]int{}
	before := int64(0)
	for i, e := range log.All {
		n := next[e.Stream]
		next[e.Stream]++
		stream := log.Streams[e.Stream]
		switch {
		case n >= len(stream):
			c.problem("all streams, event %d: %s of stream %s is not in its stream", i, e.ID, e.Stream)
		case stream[n].ID != e.ID || stream[n].Version != e.Version || !bytes.Equal(stream[n].Data, e.Data) || stream[n].CreatedAtMs != e.CreatedAtMs:
			c.problem("all streams, event %d: %s/%d is %s, in its stream %s is next, at %d", i, e.Stream, e.Version, e.ID, stream[n].ID, stream[n].Version)
		}
		if e.CreatedAtMs < before {
			c.problem("all streams, event %d: made at %d, before the one before it (%d)", i, e.CreatedAtMs, before)
		}
		before = e.CreatedAtMs
	}
	for _, stream := range slices.Sorted(maps.Keys(log.Streams)) {
		if next[stream] != len(log.Streams[stream]) {
			c.problem("all streams: %d events of stream %s, which has %d", next[stream], stream, len(log.Streams[stream]))
		}
	}
}

func shorten(b []byte) []byte {
	if len(b) > 60 {
		return append(slices.Clone(b[:60]), "…"...)
	}
	return b
}
