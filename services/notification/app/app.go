// Package app wires the notification service.
package app

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/exesdb/exesdb/services/notification/feed"
	"github.com/exesdb/exesdb/shared/config"
	"github.com/exesdb/exesdb/shared/runtime"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Config of the notification service. The struct tags are kong's.
type Config struct {
	config.Common `embed:""`
}

// Validate reports everything that is wrong.
func (c *Config) Validate() error { return c.Common.Validate() }

// Run publishes the feed of every shard that it leads, until ctx is done.
func Run(ctx context.Context, instance *runtime.Instance, cfg *Config) error {
	shards := make([]*feed.Shard, cfg.Shards)
	counts := feed.NewCounts(instance.Metrics)
	g, ctx := errgroup.WithContext(ctx)
	for i := range shards {
		shards[i] = feed.NewShard(instance, counts, int32(i)) //nolint:gosec // at most 1024
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
		return instance.ReadyWhile(ctx, 20*time.Millisecond, []string{"feed"}, func() string {
			waiting := 0
			for _, s := range shards {
				if !s.Settled() {
					waiting++
				}
			}
			if waiting > 0 {
				return fmt.Sprintf("a leader of %d of %d shards", waiting, len(shards))
			}
			return ""
		})
	})
	return g.Wait()
}
