package backend

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/gateway/core"
	"github.com/exesdb/exesdb/shared/bus"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// reader is one who waits for a page.
type reader struct {
	pages  chan *eventsv1.HistoricalEventsLoaded // has room for an answer of every replica asked
	failed chan error
}

// mostAsked is how many replicas are asked for one page at most.
const mostAsked = 4

// Read implements api.Backend. The first good page wins; a replica that declines, or
// does not answer within HedgeAfter, is joined by another.
func (b *Backend) Read(ctx context.Context, q *eventsv1.HistoricalEventsRequested) (*eventsv1.HistoricalEventsLoaded, error) {
	q.RequestId = b.Address + "/" + strconv.FormatUint(b.sequence.Add(1), 36)
	q.ReplyTo, q.ReplyPartition = b.Address, b.ReplyPartition
	q.MinOffset = max(q.GetMinOffset(), b.Floor(q.GetShard()))
	if deadline, ok := ctx.Deadline(); ok {
		q.DeadlineMs = deadline.UnixMilli()
	}
	me := &reader{pages: make(chan *eventsv1.HistoricalEventsLoaded, mostAsked), failed: make(chan error, mostAsked)}
	if err := b.addReader(q.GetRequestId(), me); err != nil {
		return nil, err
	}
	defer b.removeReader(q.GetRequestId())
	if err := b.ask(ctx, q, me); err != nil {
		return nil, err
	}
	replicas := b.Replicas(q.GetShard())
	hedge := time.NewTimer(b.HedgeAfter)
	defer hedge.Stop()
	var declined *eventsv1.HistoricalEventsLoaded
	asked, open := 1, 1
	for {
		var again bool
		select {
		case page := <-me.pages:
			if page.GetError() == "" {
				b.raise(q.GetShard(), page.GetAppliedOffset())
				return page, nil
			}
			declined = page
			open--
			again = true
		case err := <-me.failed:
			return nil, err
		case <-hedge.C:
			again = true
			hedge.Reset(b.HedgeAfter)
		case <-ctx.Done():
			if declined != nil {
				return declined, nil
			}
			return nil, fmt.Errorf("%w: %w", core.ErrNoAnswer, context.Cause(ctx))
		}
		if again && asked < mostAsked {
			b.counts.hedges.Inc()
			q.Replica = ""
			if len(replicas) > 0 {
				q.Replica = replicas[asked%len(replicas)]
			}
			if err := b.ask(ctx, q, me); err != nil {
				return nil, err
			}
			asked++
			open++
		}
		if open == 0 {
			return declined, nil
		}
	}
}

func (b *Backend) ask(ctx context.Context, q *eventsv1.HistoricalEventsRequested, me *reader) error {
	key := q.GetStreamId()
	if key == "" {
		key = q.GetRequestId()
	}
	record, err := b.Record(registry.HistoricalEventsRequested, key, q.GetShard(), q)
	if err != nil {
		return fmt.Errorf("make request %s: %w", q.GetRequestId(), err)
	}
	record.Headers = traced(ctx, record.Headers)
	return b.queries[q.GetShard()].send(request{ctx: ctx, record: record, failed: func(err error) {
		select {
		case me.failed <- err:
		default:
		}
	}})
}

func (b *Backend) addReader(id string, me *reader) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.reading) >= b.Reads {
		return core.Full(b.Reads)
	}
	b.reading[id] = me
	return nil
}

func (b *Backend) removeReader(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.reading, id)
}

func (b *Backend) reader(id string) *reader {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reading[id]
}

// readPages gives pages of history to those who wait.
func (b *Backend) readPages(ctx context.Context) error {
	return b.poll(ctx, registry.HistoricalEventsLoaded, b.pages, func(records []bus.Record) int64 {
		for i := range records {
			to := b.reader(requestID(records[i].Value))
			if to == nil {
				continue // another gateway's, or a second answer
			}
			page := &eventsv1.HistoricalEventsLoaded{}
			if !b.decode(registry.HistoricalEventsLoaded, &records[i], page) {
				continue
			}
			select {
			case to.pages <- page:
			default: // it has more answers than it asked for
			}
		}
		return -1
	})
}

// requestIDField is the number of HistoricalEventsLoaded.request_id.
var requestIDField = (&eventsv1.HistoricalEventsLoaded{}).ProtoReflect().Descriptor().Fields().ByName("request_id").Number()

// requestID finds the id in an encoded page without decoding the page, most of
// which belong to others; empty when there is none.
func requestID(encoded []byte) string {
	for len(encoded) > 0 {
		number, kind, n := protowire.ConsumeTag(encoded)
		if n < 0 {
			return ""
		}
		encoded = encoded[n:]
		if number == requestIDField && kind == protowire.BytesType {
			id, n := protowire.ConsumeBytes(encoded)
			if n < 0 {
				return ""
			}
			return string(id)
		}
		if n = protowire.ConsumeFieldValue(number, kind, encoded); n < 0 {
			return ""
		}
		encoded = encoded[n:]
	}
	return ""
}
