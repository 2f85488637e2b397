package replica

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Acknowledged follows how far the store has acknowledged each shard, out of the
// state topic shard_acknowledged. All shards of a process share one.
type Acknowledged struct {
	bus   Bus
	topic string
	log   *slog.Logger

	mu     sync.Mutex
	newest map[int32]*eventsv1.ShardAcknowledged
	loaded chan struct{} // closed when what was there at the start is read
}

// NewAcknowledged reads nothing before Run.
func NewAcknowledged(b Bus, envelope Envelope, log *slog.Logger) *Acknowledged {
	return &Acknowledged{
		bus: b, topic: envelope.Topic(registry.ShardAcknowledged), log: log,
		newest: make(map[int32]*eventsv1.ShardAcknowledged), loaded: make(chan struct{}),
	}
}

// Run reads the topic from its start until ctx is done.
func (a *Acknowledged) Run(ctx context.Context) error {
	oldest, next, err := a.bus.Watermark(ctx, a.topic, 0)
	if err != nil {
		return fmt.Errorf("follow acknowledgements: %w", err)
	}
	reader, err := a.bus.Reader(bus.ReaderOptions{Topic: a.topic, Offset: bus.OffsetOldest})
	if err != nil {
		return fmt.Errorf("follow acknowledgements: %w", err)
	}
	defer func() { _ = reader.Close() }()
	loading := oldest < next
	if !loading {
		close(a.loaded)
	}
	for {
		records, err := reader.Poll(ctx)
		if err != nil {
			return fmt.Errorf("follow acknowledgements: %w", err)
		}
		for _, r := range records {
			a.observe(r)
		}
		if loading && records[len(records)-1].Offset >= next-1 {
			loading = false
			close(a.loaded)
		}
	}
}

// observe keeps the newest of each shard: of the newest owner, the highest.
func (a *Acknowledged) observe(r bus.Record) {
	if r.Value == nil {
		return
	}
	e := new(eventsv1.ShardAcknowledged)
	if err := proto.Unmarshal(r.Value, e); err != nil {
		a.log.Warn("acknowledgement not readable, going on", "offset", r.Offset, "error", err)
		return
	}
	if e.GetOwner() == "" { // bytes that happen to decode
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.newest[e.Shard]
	if old != nil && (e.OwnerTerm < old.OwnerTerm || e.OwnerTerm == old.OwnerTerm && e.LogOffset < old.LogOffset) {
		return
	}
	a.newest[e.Shard] = e
}

// Offset is the highest acknowledged log offset of a shard; -1 is none.
func (a *Acknowledged) Offset(shard int32) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.newest[shard]; e != nil {
		return e.LogOffset
	}
	return -1
}

// Await blocks until what was acknowledged before the start is known.
func (a *Acknowledged) Await(ctx context.Context) error {
	select {
	case <-a.loaded:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
