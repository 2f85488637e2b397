package owner

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/shared/runtime"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Places follows shard_acknowledged: how far each shard was announced.
type Places struct {
	instance *runtime.Instance

	mu     sync.Mutex
	places map[int32]*eventsv1.ShardAcknowledged
	read   int64 // next offset of the topic
	moved  chan struct{}
}

// NewPlaces makes an empty view; Run fills it.
func NewPlaces(instance *runtime.Instance) *Places {
	return &Places{instance: instance, places: map[int32]*eventsv1.ShardAcknowledged{}, moved: make(chan struct{})}
}

// Run follows the topic until ctx is done.
func (p *Places) Run(ctx context.Context) error {
	topic := p.instance.Topic(registry.ShardAcknowledged)
	reader, err := bus.NewReader(p.instance.Client, bus.ReaderOptions{Topic: topic, Offset: bus.OffsetOldest})
	if err != nil {
		return fmt.Errorf("read %s: %w", topic, err)
	}
	defer reader.Close()
	for {
		records, err := reader.Poll(ctx)
		if gone(reader, err) {
			continue
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("read %s: %w", topic, err)
		}
		p.take(records, reader.Next())
	}
}

func (p *Places) take(records []bus.Record, next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range records {
		var place eventsv1.ShardAcknowledged
		if proto.Unmarshal(r.Value, &place) != nil || place.GetOwner() == "" {
			continue // an unreadable place only makes the next owner repeat more
		}
		// A late word of a former owner does not replace a newer one.
		old := p.places[place.GetShard()]
		if old == nil || place.GetOwnerTerm() > old.GetOwnerTerm() ||
			place.GetOwnerTerm() == old.GetOwnerTerm() && place.GetLogOffset() >= old.GetLogOffset() {
			p.places[place.GetShard()] = &place
		}
	}
	p.read = next
	close(p.moved)
	p.moved = make(chan struct{})
}

// At returns the place of a shard as the topic has it now: it waits until
// everything that was written before the call was read.
func (p *Places) At(ctx context.Context, shard int32) (*eventsv1.ShardAcknowledged, error) {
	topic := p.instance.Topic(registry.ShardAcknowledged)
	oldest, next, err := p.instance.Client.Watermark(ctx, topic, 0)
	if err != nil {
		return nil, fmt.Errorf("read the end of %s: %w", topic, err)
	}
	for {
		p.mu.Lock()
		place, read, moved := p.places[shard], p.read, p.moved
		p.mu.Unlock()
		if read >= next || oldest == next {
			if place == nil {
				place = nothingYet(shard)
			}
			return place, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// nothingYet is the place of a shard that has no announced outcome.
func nothingYet(shard int32) *eventsv1.ShardAcknowledged {
	return &eventsv1.ShardAcknowledged{
		Shard: shard, LogOffset: -1, Term: -1, RequestOffset: -1,
		LastAcknowledgedOffset: -1, LastRejectedOffset: -1,
	}
}
