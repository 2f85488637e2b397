// Package app wires the store service.
package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/exesdb/exesdb/services/store/owner"
	"github.com/exesdb/exesdb/shared/config"
	"github.com/exesdb/exesdb/shared/runtime"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// rulesVersion is the version of the apply rules that this release asks for.
const rulesVersion = 1

// Config of the store service. The struct tags are kong's.
type Config struct {
	config.Common  `embed:""`
	Replicas       int    `name:"replicas" env:"EXESDB_REPLICAS" default:"1" help:"Replicas of each shard."`
	Acknowledge    string `name:"acknowledge" env:"EXESDB_ACKNOWLEDGE" default:"majority" help:"Replicas that must hold a write before it is acknowledged: majority, all, or a number."`
	Window         int    `name:"window" env:"EXESDB_WINDOW" default:"8192" help:"Most commands per shard that wait for their outcome."`
	DedupeWindow   int64  `name:"dedupe-window" env:"EXESDB_DEDUPE_WINDOW" default:"1000000" help:"Log offsets for which an Idempotency-Key is remembered."`
	MaxEventBytes  int64  `name:"max-event-bytes" env:"EXESDB_MAX_EVENT_BYTES" default:"1048576" help:"Largest event in bytes."`
	MaxWriteBytes  int64  `name:"max-write-bytes" env:"EXESDB_MAX_WRITE_BYTES" default:"4194304" help:"Largest write in bytes."`
	MaxWriteEvents int32  `name:"max-write-events" env:"EXESDB_MAX_WRITE_EVENTS" default:"1000" help:"Most events of one write."`
}

// Validate reports everything that is wrong.
func (c *Config) Validate() error {
	errs := []error{c.Common.Validate()}
	if c.Replicas < 1 {
		errs = append(errs, fmt.Errorf("--replicas %d: want 1 or more", c.Replicas))
	}
	if _, err := c.quorum(); err != nil {
		errs = append(errs, err)
	}
	if c.Window < 1 {
		errs = append(errs, fmt.Errorf("--window %d: want 1 or more", c.Window))
	}
	if c.DedupeWindow < 1 {
		errs = append(errs, fmt.Errorf("--dedupe-window %d: want 1 or more", c.DedupeWindow))
	}
	if c.MaxWriteBytes > 6<<20 {
		errs = append(errs, fmt.Errorf("--max-write-bytes %d: want at most 6291456 (a Kafka record holds 8 MiB)", c.MaxWriteBytes))
	}
	return errors.Join(errs...)
}

// quorum is how many replicas must report a write.
func (c *Config) quorum() (int, error) {
	switch c.Acknowledge {
	case "majority":
		return c.Replicas/2 + 1, nil
	case "all":
		return c.Replicas, nil
	}
	var n int
	if _, err := fmt.Sscanf(c.Acknowledge, "%d", &n); err != nil || n < 1 || n > c.Replicas {
		return 0, fmt.Errorf("--acknowledge %q: want majority, all, or 1 to %d (the replicas)", c.Acknowledge, c.Replicas)
	}
	return n, nil
}

// Run does the store's work until ctx is done.
func Run(ctx context.Context, instance *runtime.Instance, cfg *Config) error {
	quorum, err := cfg.quorum()
	if err != nil {
		return err
	}
	rules := &eventsv1.ApplyRules{
		Version: rulesVersion, DedupeWindow: cfg.DedupeWindow,
		MaxEventBytes: cfg.MaxEventBytes, MaxWriteBytes: cfg.MaxWriteBytes, MaxWriteEvents: cfg.MaxWriteEvents,
	}
	places := owner.NewPlaces(instance)
	shards := make([]*owner.Shard, cfg.Shards)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return places.Run(ctx) })
	for i := range shards {
		shards[i] = owner.NewShard(instance, owner.Options{
			Shard: int32(i), Quorum: quorum, Rules: rules, Window: cfg.Window, Places: places, //nolint:gosec // at most 1024
		})
		g.Go(func() error { return shards[i].Run(ctx) })
	}
	instance.SetProgress(func() []*eventsv1.ShardProgress {
		progress := make([]*eventsv1.ShardProgress, len(shards))
		for i, s := range shards {
			progress[i] = s.Progress()
		}
		return progress
	}, "")
	g.Go(func() error {
		return instance.ReadyWhile(ctx, 20*time.Millisecond, []string{"validator", "acknowledger"}, func() string { return waitingFor(shards) })
	})
	return g.Wait()
}

// waitingFor counts the shards that have no owner, here or elsewhere.
func waitingFor(shards []*owner.Shard) string {
	waiting := 0
	for _, s := range shards {
		if !s.Settled() {
			waiting++
		}
	}
	if waiting == 0 {
		return ""
	}
	return fmt.Sprintf("the claims of %d of %d shards", waiting, len(shards))
}
