// Package feed publishes notification_triggered for one shard: the leader reads
// acknowledgements and the log, and goes on after what the feed itself says was
// published last, so no checkpoint can be lost.
package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/notification/core"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/shared/lease"
	"github.com/exesdb/exesdb/shared/runtime"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// chunkBytes is the most that is published as one batch; one write may be larger.
const chunkBytes = 2 << 20

// Shard is this instance's part in one shard's feed.
type Shard struct {
	shard     int32
	instance  *runtime.Instance
	campaign  *lease.Campaign
	log       *slog.Logger
	producer  *bus.Producer
	counts    *Counts
	leading   atomic.Bool
	published atomic.Int64
}

// NewShard makes the feed of one shard; Run publishes it.
func NewShard(instance *runtime.Instance, counts *Counts, shard int32) *Shard {
	s := &Shard{
		shard: shard, instance: instance, log: instance.Log.With("shard", shard),
		campaign: instance.Leases.Campaign(string(registry.Notification), shard),
		producer: bus.NewProducer(instance.Client), counts: counts,
	}
	s.published.Store(-1)
	return s
}

// Settled tells whether the shard's feed has a leader.
func (s *Shard) Settled() bool { return s.leading.Load() || s.campaign.HeldElsewhere() }

// Progress is the shard's part of the heartbeat.
func (s *Shard) Progress() *eventsv1.ShardProgress {
	return &eventsv1.ShardProgress{Shard: s.shard, LogOffset: s.published.Load(), Leads: s.leading.Load(), CaughtUp: true}
}

// Run publishes the feed whenever the lease is held, until ctx is done.
func (s *Shard) Run(ctx context.Context) error {
	defer s.producer.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.campaign.Run(ctx); return nil })
	g.Go(func() error {
		for s.campaign.Await(ctx) {
			if err := s.lead(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("feed interrupted, going on", "error", err)
			}
			s.leading.Store(false)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		return nil
	})
	return g.Wait()
}

func (s *Shard) lead(ctx context.Context) error {
	last, err := s.lastPublished(ctx)
	if err != nil {
		return err
	}
	key := fmt.Sprintf("%s/%d", registry.Notification, s.shard)
	err = s.instance.Publish(ctx, registry.KhepriLeaderChanged, key, &eventsv1.KhepriLeaderChanged{
		NewLeader: s.instance.Node(), Term: time.Now().UnixMilli(), Role: string(registry.Notification), Shard: s.shard,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		for {
			held, changed := s.campaign.Held()
			if !held {
				cancel(errors.New("the lease went to another instance"))
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	s.published.Store(max(last.GetLogOffset(), -1))
	s.leading.Store(true)
	return s.publish(ctx, last)
}

// lastPublished reads the newest notification of the shard.
func (s *Shard) lastPublished(ctx context.Context) (*eventsv1.NotificationTriggered, error) {
	none := &eventsv1.NotificationTriggered{LogOffset: -1, AcknowledgedAt: -1}
	topic := s.instance.Topic(registry.NotificationTriggered)
	oldest, next, err := s.instance.Client.Watermark(ctx, topic, s.shard)
	if err != nil {
		return nil, fmt.Errorf("read the end of the feed: %w", err)
	}
	if oldest == next {
		return s.emptied(none, next), nil
	}
	// The newest record is enough, unless somebody else wrote it: then the newest that is a notification.
	for from, span := next-1, int64(1); ; from, span = max(oldest, from-span), 4*span {
		last, err := s.newestNotification(ctx, topic, from, next)
		if err != nil {
			return nil, fmt.Errorf("read the end of the feed: %w", err)
		}
		if last != nil {
			return last, nil
		}
		if from == oldest {
			return s.emptied(none, oldest), nil
		}
	}
}

// emptied tells a feed that has never had a notification from one that has lost all of them to retention.
func (s *Shard) emptied(none *eventsv1.NotificationTriggered, gone int64) *eventsv1.NotificationTriggered {
	if gone > 0 {
		s.log.Warn("the feed has expired, going on with the oldest acknowledgement")
		none.LogOffset = core.Unknown
	}
	return none
}

// newestNotification is the last readable one from one offset to another; nil is none.
func (s *Shard) newestNotification(ctx context.Context, topic string, from, to int64) (*eventsv1.NotificationTriggered, error) {
	reader, err := bus.NewReader(s.instance.Client, bus.ReaderOptions{Topic: topic, Partition: s.shard, Offset: from})
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	var last *eventsv1.NotificationTriggered
	for reader.Next() < to {
		records, err := reader.Poll(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			var n eventsv1.NotificationTriggered
			if proto.Unmarshal(r.Value, &n) != nil || len(n.GetEvents()) == 0 {
				s.log.Error("poison notification left aside", "topic", r.Topic, "offset", r.Offset)
				continue
			}
			last = &n
		}
	}
	return last, nil
}

// publish follows acknowledgements and the log from the last notification on.
func (s *Shard) publish(ctx context.Context, last *eventsv1.NotificationTriggered) error {
	// The acknowledgement that the last notification came from is read again: if it is there, none is missing.
	acks, err := s.reader(ctx, registry.WriteAcknowledged, max(last.GetAcknowledgedAt(), 0))
	if err != nil {
		return err
	}
	defer acks.Close()
	bodies, err := s.reader(ctx, registry.WriteCommandValidated, max(last.GetLogOffset(), -1)+1)
	if err != nil {
		return err
	}
	defer bodies.Close()
	j := &joiner{
		Shard: s, bodies: bodies, out: batch{shard: s},
		feed: core.NewFeed(s.shard, last.GetLogOffset(), last.GetAcknowledgedAt()),
	}
	for {
		records, err := acks.Poll(ctx)
		if err != nil {
			return fmt.Errorf("read acknowledgements of shard %d: %w", s.shard, err)
		}
		if err := j.take(ctx, s.decode(records)); err != nil {
			return err
		}
		if err := j.out.flush(ctx); err != nil {
			return err
		}
	}
}

// acknowledged is an acknowledgement and its offset in its topic.
type acknowledged struct {
	*eventsv1.WriteAcknowledged
	at int64
}

func (s *Shard) decode(records []bus.Record) []acknowledged {
	acks := make([]acknowledged, 0, len(records))
	for _, r := range records {
		ack := &eventsv1.WriteAcknowledged{}
		if err := proto.Unmarshal(r.Value, ack); err != nil || ack.GetStreamId() == "" {
			s.log.Error("poison acknowledgement left aside", "topic", r.Topic, "offset", r.Offset, "error", err)
			continue // the store writes none; each names the one before it, so that a lost one is noticed
		}
		acks = append(acks, acknowledged{ack, r.Offset})
	}
	return acks
}

// joiner is one leader's join of acknowledgements and the log.
type joiner struct {
	*Shard
	feed   *core.Feed
	bodies *bus.Reader
	out    batch
}

// take releases the writes of one poll of acknowledgements.
func (j *joiner) take(ctx context.Context, acks []acknowledged) error {
	for i, ack := range acks {
		switch j.feed.Observe(ack.WriteAcknowledged, ack.at) {
		case core.Repeated:
			continue
		case core.Missed:
			// All before an acknowledged write were decided, and acknowledged if they were applied.
			if err := j.fill(ctx, ack.GetLogOffset()-1, nil); err != nil {
				return err
			}
		case core.Next:
		}
		if j.feed.Wants(ack.WriteAcknowledged) {
			if err := j.release(ctx, acks[i:]); err != nil {
				return err
			}
		}
		j.feed.Take(ack.WriteAcknowledged, ack.at)
	}
	return nil
}

// release publishes the write of the first acknowledgement; when the log has lost its body, also those of the others.
func (j *joiner) release(ctx context.Context, acks []acknowledged) error {
	if err := j.readThrough(ctx, acks[0].GetLogOffset()); err != nil {
		return err
	}
	n, err := j.feed.Release(acks[0].WriteAcknowledged, acks[0].at)
	var missing *core.MissingBodyError
	if errors.As(err, &missing) {
		var wanted []int64
		for _, ack := range acks {
			if j.feed.Wants(ack.WriteAcknowledged) && (len(wanted) == 0 || ack.GetLogOffset() > wanted[len(wanted)-1]) {
				wanted = append(wanted, ack.GetLogOffset())
			}
		}
		return j.fill(ctx, wanted[len(wanted)-1], wanted)
	}
	if err != nil {
		return err
	}
	return j.out.add(ctx, n)
}

// reader opens a topic at offset, or at the nearest place that it still has.
func (s *Shard) reader(ctx context.Context, event string, offset int64) (*bus.Reader, error) {
	topic := s.instance.Topic(event)
	oldest, next, err := s.instance.Client.Watermark(ctx, topic, s.shard)
	if err != nil {
		return nil, fmt.Errorf("read the ends of %s: %w", topic, err)
	}
	return bus.NewReader(s.instance.Client, bus.ReaderOptions{
		Topic: topic, Partition: s.shard, Offset: min(max(offset, oldest), next), Prefetch: true,
	})
}

// readThrough reads the log until its record at offset was taken, as far as it still has the records.
func (j *joiner) readThrough(ctx context.Context, offset int64) error {
	for j.bodies.Next() <= offset {
		records, err := j.bodies.Poll(ctx)
		var gone *bus.OffsetGoneError
		if errors.As(err, &gone) && gone.Asked < gone.Oldest {
			j.bodies.SeekTo(gone.Oldest)
			continue
		}
		if err != nil {
			return fmt.Errorf("read the log of shard %d: %w", j.shard, err)
		}
		for _, r := range records {
			var cmd eventsv1.WriteCommandValidated
			if proto.Unmarshal(r.Value, &cmd) != nil {
				continue // skipped by the apply core too, so never acknowledged
			}
			j.feed.Body(r.Offset, &cmd)
		}
	}
	return nil
}

type batch struct {
	shard   *Shard
	records []bus.Record
	bytes   int
	last    int64
}

func (b *batch) add(ctx context.Context, n *eventsv1.NotificationTriggered) error {
	record, err := b.shard.instance.Record(registry.NotificationTriggered, n.GetStreamId(), b.shard.shard, n)
	if err != nil {
		return err
	}
	if len(b.records) > 0 && b.bytes+len(record.Value) > chunkBytes {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.records = append(b.records, record)
	b.bytes += len(record.Value)
	b.last = n.GetLogOffset()
	return nil
}

func (b *batch) flush(ctx context.Context) error {
	if len(b.records) == 0 {
		return nil
	}
	if _, err := b.shard.producer.Append(ctx, b.records[0].Topic, b.records[0].Partition, b.records); err != nil {
		return fmt.Errorf("publish %d notifications of shard %d: %w", len(b.records), b.shard.shard, err)
	}
	b.shard.published.Store(b.last)
	b.records, b.bytes = b.records[:0], 0
	return nil
}
