package backend

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/gateway/core"
	"github.com/exesdb/exesdb/shared/bus"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// poll reads a topic until ctx is done and gives each batch to take, which may ask
// to go back to an offset; -1 is go on.
func (b *Backend) poll(ctx context.Context, event string, r Reader, take func([]bus.Record) (back int64)) error {
	for {
		records, err := r.Poll(ctx)
		var gone *bus.OffsetGoneError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &gone):
			// Answers that retention took are those no one waits for any more.
			to := gone.Oldest
			if gone.Asked > gone.Next {
				to = gone.Next
			}
			b.Log.Warn("answers are gone, reading on", "event", event, "error", err, "from", to)
			r.SeekTo(to)
			continue
		case err != nil:
			return fmt.Errorf("read %s: %w", event, err)
		}
		if back := take(records); back >= 0 {
			r.SeekTo(back)
		}
	}
}

// readAcks gives the acknowledgements of a shard to those who wait.
func (b *Backend) readAcks(ctx context.Context, shard int32) error {
	var chain core.Chain
	good := int64(-1) // topic offset after the last acknowledgement without a gap before it
	return b.poll(ctx, registry.WriteAcknowledged, b.acks[shard], func(records []bus.Record) int64 {
		back, highest := int64(-1), int64(-1)
		for i := range records {
			ack := &eventsv1.WriteAcknowledged{}
			if !b.decode(registry.WriteAcknowledged, &records[i], ack) {
				continue
			}
			switch chain.Observe(ack.GetPreviousAcknowledgedOffset(), ack.GetLogOffset()) {
			case core.Repeated:
				continue
			case core.Missed:
				after, last, _ := chain.Gap()
				b.counts.gaps.Inc()
				b.Log.Warn("acknowledgements are missing, reading again", "shard", shard, "after_log_offset", after, "to_log_offset", last)
				if good >= 0 && back < 0 {
					back = good
				}
			}
			good = records[i].Offset + 1
			highest = max(highest, ack.GetLogOffset())
			b.resolve(core.Outcome{Acknowledged: ack})
		}
		b.raise(shard, highest)
		return back
	})
}

// readRejects gives the rejections of a shard to those who wait.
func (b *Backend) readRejects(ctx context.Context, shard int32) error {
	return b.poll(ctx, registry.WriteRejected, b.rejects[shard], func(records []bus.Record) int64 {
		for i := range records {
			r := &eventsv1.WriteRejected{}
			if b.decode(registry.WriteRejected, &records[i], r) {
				b.resolve(core.Outcome{Rejected: r})
			}
		}
		return -1
	})
}

// decode reads a record; one that cannot be read answers no one.
func (b *Backend) decode(event string, r *bus.Record, into proto.Message) bool {
	if err := proto.Unmarshal(r.Value, into); err != nil {
		b.counts.undecodable.WithLabelValues(event).Inc()
		b.Log.Error("answer not decoded, passing over it", "event", event, "partition", r.Partition, "offset", r.Offset, "error", err)
		return false
	}
	return true
}
