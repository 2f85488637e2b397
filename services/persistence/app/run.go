package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/exesdb/exesdb/services/persistence/replica"
	"github.com/exesdb/exesdb/services/persistence/storage"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/shared/runtime"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Run keeps this instance's replica of every shard until ctx is done.
func Run(ctx context.Context, instance *runtime.Instance, cfg *Config) (err error) {
	store, err := storage.Open(cfg.DataDir, storage.Options{
		CacheBytes: cfg.CacheBytes, MinFreeBytes: cfg.MinFreeBytes, MemTableBytes: memTableBytes(cfg.Shards), Log: instance.Log,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	metrics, err := replica.NewMetrics(instance.Metrics)
	if err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	producer := bus.NewProducer(instance.Client)
	defer func() { _ = producer.Close() }()
	kafka := replica.Kafka{Client: instance.Client, Producer: producer}
	acknowledged := replica.NewAcknowledged(kafka, instance, instance.Log)

	var open []*storage.Shard
	defer func() {
		for _, db := range open {
			err = errors.Join(err, db.Close())
		}
	}()
	shards := make([]*shard, cfg.Shards)
	for i := range shards {
		db, err := store.Shard(int32(i)) //nolint:gosec // at most 1024
		if err != nil {
			return err
		}
		open = append(open, db)
		shards[i] = newShard(instance, replica.Options{
			Node: instance.Node(), Store: db, Bus: kafka, Envelope: instance, Publish: instance.Publish,
			Acknowledged: acknowledged, Alone: func() bool { return cfg.Replicas == 1 },
			AnnounceWrites: cfg.AnnounceWrites, Metrics: metrics, Log: instance.Log,
		})
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return acknowledged.Run(ctx) })
	for _, s := range shards {
		g.Go(func() error { return s.run(ctx) })
	}
	instance.SetProgress(func() []*eventsv1.ShardProgress {
		progress := make([]*eventsv1.ShardProgress, len(shards))
		for i, s := range shards {
			progress[i] = s.replica.Progress()
		}
		return progress
	}, store.UUID())
	g.Go(func() error {
		return instance.ReadyWhile(ctx, 20*time.Millisecond, []string{"replica", "history"}, func() string { return waitingFor(shards) })
	})
	return g.Wait()
}

// memTableBytes keeps the memory of many shards in bounds.
func memTableBytes(shards int32) uint64 {
	if shards > 4 {
		return 16 << 20
	}
	return 32 << 20
}

// waitingFor says what keeps the instance from being ready: "" is nothing.
func waitingFor(shards []*shard) string {
	counts := make(map[replica.Phase]int)
	for _, s := range shards {
		counts[s.replica.Phase()]++
	}
	for _, phase := range []replica.Phase{replica.Diverged, replica.FullDisk, replica.Recovering, replica.CatchingUp} {
		if n := counts[phase]; n > 0 {
			return fmt.Sprintf("%d of %d shards: %s", n, len(shards), phase)
		}
	}
	return ""
}
