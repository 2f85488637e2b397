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

// follower follows one kind of answers of a shard, each of which names the one before it.
type follower struct {
	b     *Backend
	event string
	shard int32
	chain core.Chain
	good  int64 // topic offset after the last answer without a gap before it
	back  int64 // topic offset to read again from, because some are missing; -1 is none
}

func (b *Backend) follow(event string, shard int32) *follower {
	return &follower{b: b, event: event, shard: shard, good: -1, back: -1}
}

// isNew takes an answer's place in the log and the one before it, and its offset in the topic.
func (f *follower) isNew(previous, at, offset int64) bool {
	switch f.chain.Observe(previous, at) {
	case core.Repeated:
		return false
	case core.Missed:
		after, last, _ := f.chain.Gap()
		f.b.counts.gaps.Inc()
		f.b.Log.Warn("answers are missing, reading again", "event", f.event, "shard", f.shard, "after_log_offset", after, "to_log_offset", last)
		if f.good >= 0 && f.back < 0 {
			f.back = f.good
		}
	}
	f.good = offset + 1
	return true
}

// again is where to read again from, -1 if nowhere; it is asked once per batch.
func (f *follower) again() int64 {
	back := f.back
	f.back = -1
	return back
}

// readAcks gives the acknowledgements of a shard to those who wait.
func (b *Backend) readAcks(ctx context.Context, shard int32) error {
	f := b.follow(registry.WriteAcknowledged, shard)
	return b.poll(ctx, registry.WriteAcknowledged, b.acks[shard], func(records []bus.Record) int64 {
		highest := int64(-1)
		for i := range records {
			ack := &eventsv1.WriteAcknowledged{}
			if !b.decode(registry.WriteAcknowledged, &records[i], ack) ||
				!f.isNew(ack.GetPreviousAcknowledgedOffset(), ack.GetLogOffset(), records[i].Offset) {
				continue
			}
			highest = max(highest, ack.GetLogOffset())
			b.resolve(core.Outcome{Acknowledged: ack})
		}
		b.raise(shard, highest)
		return f.again()
	})
}

// readRejects gives the rejections of a shard to those who wait. Those that never reached the log have no place in it.
func (b *Backend) readRejects(ctx context.Context, shard int32) error {
	f := b.follow(registry.WriteRejected, shard)
	return b.poll(ctx, registry.WriteRejected, b.rejects[shard], func(records []bus.Record) int64 {
		for i := range records {
			r := &eventsv1.WriteRejected{}
			if !b.decode(registry.WriteRejected, &records[i], r) ||
				r.GetLogOffset() >= 0 && !f.isNew(r.GetPreviousRejectedOffset(), r.GetLogOffset(), records[i].Offset) {
				continue
			}
			b.resolve(core.Outcome{Rejected: r})
		}
		return f.again()
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
