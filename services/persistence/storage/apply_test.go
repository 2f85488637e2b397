package storage

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"github.com/exesdb/exesdb/services/persistence/core"
)

// logOf numbers commands of one owner: a claim, then these.
type logOf struct {
	seq, request int64
}

func (l *logOf) claim() *eventsv1.WriteCommandValidated {
	return &eventsv1.WriteCommandValidated{Kind: eventsv1.CommandKind_COMMAND_KIND_CLAIM, Owner: "store-0"}
}

func (l *logOf) number(c *eventsv1.WriteCommandValidated) *eventsv1.WriteCommandValidated {
	l.seq++
	l.request++
	c.Seq, c.RequestOffset = l.seq, l.request
	return c
}

func (l *logOf) append(stream, write string, expected int64, events ...*eventsv1.NewEvent) *eventsv1.WriteCommandValidated {
	return l.number(&eventsv1.WriteCommandValidated{
		Kind: eventsv1.CommandKind_COMMAND_KIND_APPEND, StreamId: stream, WriteId: write,
		ExpectedVersion: expected, Events: events, BodyHash: []byte(write), RequestedAtMs: 1000 + l.request,
	})
}

func (l *logOf) delete(stream, write string, kind eventsv1.CommandKind) *eventsv1.WriteCommandValidated {
	return l.number(&eventsv1.WriteCommandValidated{
		Kind: kind, StreamId: stream, WriteId: write, ExpectedVersion: core.ExpectAny, BodyHash: []byte(write),
		RequestedAtMs: 1000 + l.request,
	})
}

func event(id, kind string, size int, tags ...string) *eventsv1.NewEvent {
	return &eventsv1.NewEvent{EventId: id, EventType: kind, Data: body(size), Tags: tags}
}

// applyTo applies records at consecutive offsets in one batch.
func applyTo(tb testing.TB, s *Shard, records ...*eventsv1.WriteCommandValidated) []*eventsv1.Outcome {
	tb.Helper()
	view, err := s.ReadAhead(records)
	if err != nil {
		tb.Fatal(err)
	}
	state, overlay, batch := s.State(), core.NewOverlay(view), s.NewBatch()
	var outs []*eventsv1.Outcome
	for _, r := range records {
		value, err := proto.Marshal(r)
		if err != nil {
			tb.Fatal(err)
		}
		next, ch, err := core.Apply(state, core.Command{Offset: state.Applied + 1, Record: r, RecordHash: xxhash.Sum64(value)}, overlay)
		if err != nil {
			tb.Fatal(err)
		}
		state = next
		overlay.Add(ch)
		if err := batch.Add(state, ch, RawRecord{Offset: state.Applied, Key: []byte(r.StreamId), Value: value}); err != nil {
			tb.Fatal(err)
		}
		outs = append(outs, ch.Outcome)
	}
	if err := batch.Commit(); err != nil {
		tb.Fatal(err)
	}
	return outs
}

func openShard(tb testing.TB, dir string, opts Options) *Shard {
	tb.Helper()
	store, err := Open(dir, opts)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := store.Shard(0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = s.Close()
		_ = store.Close()
	})
	return s
}

func id(prefix string, n int64) string {
	return fmt.Sprintf("%s-%012x", prefix, uint64(n)*0x9E3779B97F4A7C15>>16)
}

// body is half noise, so that compression does about what it does to JSON.
func body(size int) []byte {
	b := make([]byte, size)
	for i := range b[:size/2] {
		b[i] = byte(rand.Uint32())
	}
	return b
}
