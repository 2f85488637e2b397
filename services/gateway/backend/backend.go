// Package backend is the gateway's way to the store, over the bus: it produces
// requests in batches of whatever waits, reads every answer, and gives each to the
// client that waits for it.
package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/gateway/core"
	"github.com/exesdb/exesdb/shared/bus"
)

// Producer writes record batches; *bus.Producer is one.
type Producer interface {
	Append(ctx context.Context, topic string, partition int32, records []bus.Record) (int64, error)
}

// Reader reads one partition; *bus.Reader is one.
type Reader interface {
	Poll(ctx context.Context) ([]bus.Record, error)
	SeekTo(offset int64)
	Close() error
}

// Options of a Backend. All are required.
type Options struct {
	Producer Producer
	// OpenReader opens a reader that begins at the partition's present end.
	OpenReader func(ctx context.Context, topic string, partition int32) (Reader, error)
	// Record puts an event in its envelope.
	Record func(event, key string, partition int32, msg proto.Message) (bus.Record, error)
	Topic  func(event string) string
	Shards int32
	// Address is where answers go: unique to this start of this gateway.
	Address string
	// ReplyPartition of historical_events_loaded, where pages are awaited.
	ReplyPartition int32
	// Replicas names the caught-up replicas of a shard, the best first. It may be empty.
	Replicas func(shard int32) []string
	// Writes and Reads bound the requests that wait.
	Writes, Reads int
	// HedgeAfter is how long a page is awaited before another replica is asked too.
	HedgeAfter time.Duration
	Log        *slog.Logger
	Metrics    prometheus.Registerer
}

// Backend implements the API's backend over the bus.
type Backend struct {
	Options
	writes, queries []*lane // per shard
	acks, rejects   []Reader
	pages           Reader
	counts          counts
	sequence        atomic.Uint64 // of reads

	mu      sync.Mutex
	waiting *core.Waiting[*writer]
	reading map[string]*reader
	floor   *core.Floor
	changed chan struct{}
}

// Open makes a backend whose readers stand where the topics end now, so that no
// answer to a later request can be missed. Run must follow.
func Open(ctx context.Context, o Options) (*Backend, error) {
	b := &Backend{
		Options: o, waiting: core.NewWaiting[*writer](o.Writes), reading: map[string]*reader{},
		floor: core.NewFloor(o.Shards), changed: make(chan struct{}),
	}
	b.counts = newCounts(b)
	for in := range o.Shards {
		b.writes = append(b.writes, newLane(o.Producer, o.Topic(registry.StreamWriteRequested), in))
		b.queries = append(b.queries, newLane(o.Producer, o.Topic(registry.HistoricalEventsRequested), in))
		acks, err := b.open(ctx, registry.WriteAcknowledged, in)
		if err != nil {
			return nil, errors.Join(err, b.closeReaders())
		}
		b.acks = append(b.acks, acks)
		rejects, err := b.open(ctx, registry.WriteRejected, in)
		if err != nil {
			return nil, errors.Join(err, b.closeReaders())
		}
		b.rejects = append(b.rejects, rejects)
	}
	pages, err := b.open(ctx, registry.HistoricalEventsLoaded, o.ReplyPartition)
	if err != nil {
		return nil, errors.Join(err, b.closeReaders())
	}
	b.pages = pages
	return b, nil
}

func (b *Backend) open(ctx context.Context, event string, partition int32) (Reader, error) {
	r, err := b.OpenReader(ctx, b.Topic(event), partition)
	if err != nil {
		return nil, fmt.Errorf("open reader of %s, partition %d: %w", event, partition, err)
	}
	return r, nil
}

func (b *Backend) closeReaders() error {
	var errs []error
	for _, r := range append(append([]Reader{}, b.acks...), b.rejects...) {
		errs = append(errs, r.Close())
	}
	if b.pages != nil {
		errs = append(errs, b.pages.Close())
	}
	return errors.Join(errs...)
}

// Run produces and reads until ctx is done, which is a clean end, or a topic cannot be read.
func (b *Backend) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for in := range b.Shards {
		g.Go(func() error { return b.writes[in].run(gctx) })
		g.Go(func() error { return b.queries[in].run(gctx) })
		g.Go(func() error { return b.readAcks(gctx, in) })
		g.Go(func() error { return b.readRejects(gctx, in) })
	}
	g.Go(func() error { return b.readPages(gctx) })
	err := g.Wait()
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, b.closeReaders())
}

// Floor is the highest log offset of the shard that was seen; -1 is none.
func (b *Backend) Floor(shard int32) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.floor.At(shard)
}

// Changed is closed when the floor of any shard rises.
func (b *Backend) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// raise lifts a shard's floor and wakes those who follow.
func (b *Backend) raise(shard int32, offset int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.floor.Raise(shard, offset) {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}
