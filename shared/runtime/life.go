package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Run announces the instance, runs its work and beats its heart until ctx is
// done or the work ends; then it closes the instance. A ctx that is done is a
// clean end: nil.
func (i *Instance) Run(ctx context.Context, work func(ctx context.Context) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return i.announce(gctx) })
	g.Go(func() error { return i.beat(gctx) })
	g.Go(func() error {
		err := work(gctx)
		if err == nil && gctx.Err() == nil {
			return errEnded
		}
		return err
	})
	err := g.Wait()
	if ctx.Err() != nil || errors.Is(err, errEnded) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("run %s: %w", i.Config.Node, err)
	}
	return errors.Join(err, i.Close())
}

// errEnded ends the group when the work ends by itself.
var errEnded = errors.New("work ended")

func (i *Instance) announce(ctx context.Context) error {
	now := time.Now().UnixMilli()
	err := i.Publish(ctx, registry.SystemStartupInitiated, i.Config.Node,
		&eventsv1.SystemStartupInitiated{Node: i.Config.Node, TimestampMs: now, StoreId: i.Config.StoreID})
	if err != nil || i.System == registry.ControlPlane {
		return err
	}
	return i.Publish(ctx, registry.SubsystemStarting, i.Config.Node,
		&eventsv1.SubsystemStarting{System: string(i.System), Node: i.Config.Node, Pid: i.admin.addr})
}

// beat publishes heartbeats, at once when readiness changes, and
// subsystem_ready whenever the instance becomes ready.
func (i *Instance) beat(ctx context.Context) error {
	producer := bus.NewProducer(i.Client)
	defer producer.Close()
	tick := time.NewTicker(i.Config.Heartbeat)
	defer tick.Stop()
	was := false
	for {
		beat := i.heartbeat()
		if err := i.sendBeat(ctx, producer, beat); err != nil && ctx.Err() == nil {
			i.Log.Warn("heartbeat not sent, going on", "error", err)
		}
		if beat.GetReady() && !was && i.System != registry.ControlPlane {
			i.mu.Lock()
			services := i.services
			i.mu.Unlock()
			event := &eventsv1.SubsystemReady{System: string(i.System), Node: i.Config.Node, Services: services}
			if err := i.Publish(ctx, registry.SubsystemReady, i.Config.Node, event); err != nil && ctx.Err() == nil {
				i.Log.Warn("subsystem_ready not sent; heartbeats carry it", "error", err)
			}
		}
		was = beat.GetReady()
		select {
		case <-tick.C:
		case <-i.changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (i *Instance) sendBeat(ctx context.Context, producer *bus.Producer, beat *eventsv1.NodeHeartbeat) error {
	record, err := i.Record(registry.NodeHeartbeat, i.Config.Node, 0, beat)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 4*i.Config.Heartbeat)
	defer cancel()
	_, err = producer.Append(ctx, record.Topic, record.Partition, []bus.Record{record})
	return err
}
