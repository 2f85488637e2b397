// Package app wires the control plane: the readiness aggregator and its logger workers.
package app

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/controlplane/core"
	"github.com/exesdb/exesdb/shared/config"
	"github.com/exesdb/exesdb/shared/control"
	"github.com/exesdb/exesdb/shared/runtime"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Config of the control plane. The struct tags are kong's.
type Config struct {
	config.Common `embed:""`
}

// Validate reports everything that is wrong.
func (c *Config) Validate() error { return c.Common.Validate() }

// controlPlane serialises the readiness core, which is pure.
type controlPlane struct {
	instance  *runtime.Instance
	window    time.Duration
	mu        sync.Mutex
	readiness *core.Readiness
}

// Run aggregates readiness until ctx is done.
func Run(ctx context.Context, instance *runtime.Instance, cfg *Config) error {
	window := runtime.Window(cfg.Common)
	c := &controlPlane{instance: instance, window: window, readiness: core.NewReadiness(instance.Node(), registry.Expected(), window)}
	router, err := instance.Control()
	if err != nil {
		return err
	}
	if err := c.policies(router); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return router.Run(ctx) })
	g.Go(func() error { return c.run(ctx, router.Running()) })
	return g.Wait()
}

func (c *controlPlane) policies(router *control.Router) error {
	if err := logWorkers(router, c.instance.Log); err != nil {
		return err
	}
	err := control.On(router, "UpdateSystemStatusOnNodeHeartbeat", control.Newest, func(ctx context.Context, meta control.Meta, beat *eventsv1.NodeHeartbeat) error {
		return c.step(ctx, func(now time.Time) { c.readiness.Heartbeat(beat, meta.Incarnation, meta.Sequence, now) })
	})
	if err != nil {
		return err
	}
	err = control.On(router, "UpdateSystemStatusOnSubsystemStarting", control.Oldest, func(ctx context.Context, meta control.Meta, e *eventsv1.SubsystemStarting) error {
		return c.fresh(ctx, meta, func(now time.Time) { c.readiness.Starting(e, meta.Incarnation, now) })
	})
	if err != nil {
		return err
	}
	return control.On(router, "PublishSystemReadyOnSubsystemReady", control.Oldest, func(ctx context.Context, meta control.Meta, e *eventsv1.SubsystemReady) error {
		beat := &eventsv1.NodeHeartbeat{Node: e.GetNode(), System: e.GetSystem(), Ready: true}
		return c.fresh(ctx, meta, func(now time.Time) { c.readiness.Heartbeat(beat, meta.Incarnation, meta.Sequence, now) })
	})
}

// fresh takes a lifecycle event for what it says only while it is young: what
// was true yesterday is not true now.
func (c *controlPlane) fresh(ctx context.Context, meta control.Meta, change func(now time.Time)) error {
	if time.Since(meta.Time) > c.window {
		return nil
	}
	return c.step(ctx, change)
}

func (c *controlPlane) run(ctx context.Context, running <-chan struct{}) error {
	select {
	case <-running:
	case <-ctx.Done():
		return nil
	}
	c.instance.Ready("readiness", "logger-workers")
	if err := c.announceStart(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(c.instance.Config.Heartbeat)
	defer tick.Stop()
	for {
		if err := c.step(ctx, func(time.Time) {}); err != nil {
			c.instance.Log.Warn("readiness not published, going on", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *controlPlane) announceStart(ctx context.Context) error {
	node := c.instance.Node()
	err := c.instance.Publish(ctx, registry.ControlSystemReady, node,
		&eventsv1.ControlSystemReady{PubsubPid: c.instance.Config.KafkaBrokers[0], ControlPlanePid: node})
	if err != nil {
		return err
	}
	var names []string
	for _, s := range registry.Expected() {
		names = append(names, string(s))
	}
	return c.instance.Publish(ctx, registry.InitializationStarted, node,
		&eventsv1.InitializationStarted{ExpectedSystems: names, Node: node})
}

// step changes the state and publishes what follows from it.
func (c *controlPlane) step(ctx context.Context, change func(now time.Time)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	change(now)
	ready, degraded := c.readiness.Tick(now)
	switch {
	case ready != nil:
		return c.instance.Publish(ctx, registry.SystemReady, c.instance.Config.StoreID, ready)
	case degraded != nil:
		c.instance.Log.Warn("system degraded", "missing", degraded.GetMissingSystems())
		return c.instance.Publish(ctx, registry.SystemDegraded, c.instance.Config.StoreID, degraded)
	}
	return nil
}
