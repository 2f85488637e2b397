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
	leading   atomic.Bool
	published atomic.Int64
}

// NewShard makes the feed of one shard; Run publishes it.
func NewShard(instance *runtime.Instance, shard int32) *Shard {
	s := &Shard{
		shard: shard, instance: instance, log: instance.Log.With("shard", shard),
		campaign: instance.Leases.Campaign(string(registry.Notification), shard),
		producer: bus.NewProducer(instance.Client),
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
	s.published.Store(last.GetLogOffset())
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
		return none, nil
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
			return none, nil
		}
	}
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
	acks, err := s.reader(ctx, registry.WriteAcknowledged, last.GetAcknowledgedAt()+1)
	if err != nil {
		return err
	}
	defer acks.Close()
	bodies, err := s.reader(ctx, registry.WriteCommandValidated, last.GetLogOffset()+1)
	if err != nil {
		return err
	}
	defer bodies.Close()
	feed := core.NewFeed(s.shard, last.GetLogOffset())
	out := batch{shard: s}
	for {
		records, err := acks.Poll(ctx)
		if err != nil {
			return fmt.Errorf("read acknowledgements of shard %d: %w", s.shard, err)
		}
		for _, r := range records {
			var ack eventsv1.WriteAcknowledged
			if err := proto.Unmarshal(r.Value, &ack); err != nil {
				s.log.Error("poison acknowledgement left aside", "topic", r.Topic, "offset", r.Offset, "error", err)
				continue // the store writes none; each names the one before it, so that a lost one would be noticed
			}
			if !feed.Wants(&ack) {
				continue
			}
			if err := s.readThrough(ctx, bodies, feed, ack.GetLogOffset()); err != nil {
				return err
			}
			n, err := feed.Release(&ack, r.Offset)
			if err != nil {
				return err
			}
			if err := out.add(ctx, n); err != nil {
				return err
			}
		}
		if err := out.flush(ctx); err != nil {
			return err
		}
	}
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

// readThrough reads the log until its record at offset was taken.
func (s *Shard) readThrough(ctx context.Context, bodies *bus.Reader, feed *core.Feed, offset int64) error {
	for bodies.Next() <= offset {
		records, err := bodies.Poll(ctx)
		if err != nil {
			return fmt.Errorf("read the log of shard %d: %w", s.shard, err)
		}
		for _, r := range records {
			var cmd eventsv1.WriteCommandValidated
			if proto.Unmarshal(r.Value, &cmd) != nil {
				continue // skipped by the apply core too, so never acknowledged
			}
			feed.Body(r.Offset, &cmd)
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
