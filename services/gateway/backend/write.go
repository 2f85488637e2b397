package backend

import (
	"context"
	"fmt"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/gateway/core"
	"github.com/exesdb/exesdb/services/gateway/trace"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/shared/shard"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// writer is one who waits for the outcome of a write.
type writer struct {
	// answer has room for one, and gets at most one: who takes the writer out of the
	// table sends.
	answer chan answer
}

type answer struct {
	outcome core.Outcome
	err     error
}

// Start implements api.Backend: the write goes out after those started before it.
func (b *Backend) Start(ctx context.Context, w *eventsv1.StreamWriteRequested) (func() (core.Outcome, error), error) {
	w.ReplyTo = core.ReplyTo(b.Address, w.GetBodyHash())
	in := shard.Of(w.GetStreamId(), b.Shards)
	record, err := b.Record(registry.StreamWriteRequested, w.GetStreamId(), in, w)
	if err != nil {
		return nil, fmt.Errorf("make request %s: %w", w.GetWriteId(), err)
	}
	record.Headers = traced(ctx, record.Headers)
	key, me := core.KeyOf(w), &writer{answer: make(chan answer, 1)}
	b.mu.Lock()
	err = b.waiting.Add(key, me)
	b.mu.Unlock()
	if err != nil {
		b.counts.writes.WithLabelValues("refused").Inc()
		return nil, err
	}
	failed := func(err error) {
		if b.remove(key, me) {
			me.answer <- answer{err: err}
		}
	}
	if err := b.writes[in].send(request{ctx: ctx, record: record, failed: failed}); err != nil {
		b.remove(key, me)
		b.counts.writes.WithLabelValues("unproduced").Inc()
		return nil, err
	}
	return func() (core.Outcome, error) { return b.await(ctx, key, me) }, nil
}

// Write is Start and the wait for the outcome.
func (b *Backend) Write(ctx context.Context, w *eventsv1.StreamWriteRequested) (core.Outcome, error) {
	wait, err := b.Start(ctx, w)
	if err != nil {
		return core.Outcome{}, err
	}
	return wait()
}

func (b *Backend) await(ctx context.Context, key core.Key, me *writer) (core.Outcome, error) {
	select {
	case a := <-me.answer:
		return b.count(a)
	case <-ctx.Done():
	}
	if !b.remove(key, me) { // answered at the same moment
		return b.count(<-me.answer)
	}
	return b.count(answer{err: fmt.Errorf("%w: %w", core.ErrNoAnswer, context.Cause(ctx))})
}

func (b *Backend) count(a answer) (core.Outcome, error) {
	switch {
	case a.err != nil:
		b.counts.writes.WithLabelValues("unanswered").Inc()
	case a.outcome.Rejected != nil:
		b.counts.writes.WithLabelValues("rejected").Inc()
	default:
		b.counts.writes.WithLabelValues("acknowledged").Inc()
	}
	return a.outcome, a.err
}

// remove takes the writer out of the table; false when someone else has, who then answers.
func (b *Backend) remove(key core.Key, me *writer) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting.Remove(key, me)
}

// resolve answers everyone who waits for the outcome.
func (b *Backend) resolve(o core.Outcome) {
	b.mu.Lock()
	waiting := b.waiting.Resolve(o.Key())
	b.mu.Unlock()
	for _, w := range waiting {
		w.answer <- answer{outcome: o}
	}
}

// traced adds what ties the record to the client's request.
func traced(ctx context.Context, headers []bus.Header) []bus.Header {
	t := trace.From(ctx)
	if t.ID != "" {
		headers = append(headers, bus.Header{Key: bus.HeaderCorrelationID, Value: []byte(t.ID)})
	}
	if t.Parent != "" {
		headers = append(headers, bus.Header{Key: bus.HeaderTraceParent, Value: []byte(t.Parent)})
	}
	return headers
}
