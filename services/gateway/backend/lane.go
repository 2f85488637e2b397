package backend

import (
	"context"
	"errors"
	"fmt"

	"github.com/exesdb/exesdb/services/gateway/core"
	"github.com/exesdb/exesdb/shared/bus"
)

const (
	// laneDepth is how many requests wait for their batch; more wait in their own goroutines.
	laneDepth = 1024
	// laneBytes bounds a batch. One request is at most a little more than
	// core.Limits.WriteBytes, so that batch and request stay below bus.MaxBatchBytes.
	laneBytes   = 2 << 20
	laneRecords = 4096
)

// lane produces the requests of one partition: it drains what waits, produces it
// as one batch, and goes on. It never waits for a batch to fill. Partitions have
// lanes of their own, so that one without a leader holds up no other.
type lane struct {
	producer  Producer
	topic     string
	partition int32
	in        chan request
	closed    chan struct{} // the lane takes nothing more
}

// request is a record on its way.
type request struct {
	ctx    context.Context //nolint:containedctx // of the client that waits
	record bus.Record
	// failed is told that the record was not produced and never will be.
	failed func(error)
}

func newLane(p Producer, topic string, partition int32) *lane {
	return &lane{producer: p, topic: topic, partition: partition, in: make(chan request, laneDepth), closed: make(chan struct{})}
}

// send queues a request; requests of one caller go out in the order of the calls.
func (l *lane) send(r request) error {
	select {
	case l.in <- r:
		return nil
	case <-l.closed:
		return fmt.Errorf("%w: the gateway stops", core.ErrNotProduced)
	case <-r.ctx.Done():
		return fmt.Errorf("%w: %w while it waited for its turn", core.ErrNotProduced, context.Cause(r.ctx))
	}
}

func (l *lane) run(ctx context.Context) error {
	defer close(l.closed)
	var batch []request
	var records []bus.Record
	var held *request // taken from the channel, too large for the batch
	for {
		batch, records = batch[:0], records[:0]
		if held != nil {
			batch, held = append(batch, *held), nil
		} else {
			select {
			case r := <-l.in:
				batch = append(batch, r)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		size := len(batch[0].record.Value)
	drain:
		for len(batch) < laneRecords {
			select {
			case r := <-l.in:
				if size += len(r.record.Value); size > laneBytes {
					held = &r
					break drain
				}
				batch = append(batch, r)
			default:
				break drain
			}
		}
		sent := batch[:0]
		for _, r := range batch {
			if r.ctx.Err() != nil { // no one waits, and nothing was promised
				r.failed(fmt.Errorf("%w: %w before it was sent", core.ErrNotProduced, context.Cause(r.ctx)))
				continue
			}
			sent = append(sent, r)
			records = append(records, r.record)
		}
		if len(records) == 0 {
			continue
		}
		_, err := l.producer.Append(ctx, l.topic, l.partition, records)
		if err == nil || errors.Is(err, bus.ErrOutcomeUnknown) {
			continue // the answer tells
		}
		for _, r := range sent {
			r.failed(fmt.Errorf("%w: %w", core.ErrNotProduced, err))
		}
	}
}
