// Package app wires the cluster service.
package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/exesdb/exesdb/services/cluster/core"
	"github.com/exesdb/exesdb/shared/config"
	"github.com/exesdb/exesdb/shared/control"
	"github.com/exesdb/exesdb/shared/lease"
	"github.com/exesdb/exesdb/shared/runtime"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Config of the cluster service. The struct tags are kong's.
type Config struct {
	config.Common `embed:""`
	Missed        int `name:"missed-heartbeats" env:"EXESDB_MISSED_HEARTBEATS" default:"3" help:"Heartbeats missed before a node is failed."`
}

// Validate reports everything that is wrong.
func (c *Config) Validate() error {
	err := c.Common.Validate()
	if c.Missed < 2 {
		err = errors.Join(err, fmt.Errorf("--missed-heartbeats %d: want 2 or more", c.Missed))
	}
	return err
}

// coordinator serialises the membership core. Every instance keeps the state;
// the holder of the lease publishes what follows.
type coordinator struct {
	instance *runtime.Instance
	campaign *lease.Campaign
	mu       sync.Mutex
	members  *core.Members
}

// Run keeps the membership until ctx is done.
func Run(ctx context.Context, instance *runtime.Instance, cfg *Config) error {
	c := &coordinator{
		instance: instance, campaign: instance.Leases.Campaign(string(instance.System), 0),
		members: core.NewMembers(cfg.StoreID, time.Duration(cfg.Missed)*cfg.Heartbeat, 0),
	}
	router, err := instance.Control()
	if err != nil {
		return err
	}
	err = control.On(router, "UpdateMembershipOnNodeHeartbeat", control.Newest, func(ctx context.Context, meta control.Meta, beat *eventsv1.NodeHeartbeat) error {
		return c.step(ctx, func(now time.Time) []core.Output {
			return c.members.Heartbeat(beat.GetNode(), meta.Incarnation, meta.Sequence, now)
		})
	})
	if err != nil {
		return err
	}
	err = control.On(router, "KeepEpochOnClusterMembershipChanged", control.Oldest, func(_ context.Context, _ control.Meta, e *eventsv1.ClusterMembershipChanged) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.members.SawEpoch(e.GetEpoch())
		return nil
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { c.campaign.Run(ctx); return nil })
	g.Go(func() error { return router.Run(ctx) })
	g.Go(func() error { return c.tick(ctx, router.Running()) })
	return g.Wait()
}

func (c *coordinator) tick(ctx context.Context, running <-chan struct{}) error {
	select {
	case <-running:
	case <-ctx.Done():
		return nil
	}
	c.instance.Ready("membership", "failure-detector", "store-coordinator")
	tick := time.NewTicker(c.instance.Config.Heartbeat / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := c.step(ctx, c.members.Tick); err != nil && ctx.Err() == nil {
				c.instance.Log.Warn("membership not published, going on", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *coordinator) step(ctx context.Context, change func(now time.Time) []core.Output) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	outputs := change(time.Now())
	if held, _ := c.campaign.Held(); !held {
		return nil
	}
	for _, o := range outputs {
		if err := c.instance.Publish(ctx, control.Codec{}.Name(o.Event), o.Key, o.Event); err != nil {
			return err
		}
	}
	return nil
}
