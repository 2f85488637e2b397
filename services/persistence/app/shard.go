package app

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/persistence/replica"
	"github.com/exesdb/exesdb/shared/lease"
	"github.com/exesdb/exesdb/shared/runtime"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// shard is this instance's part in one shard: its replica, and its candidacy for
// the lead once it has caught up.
type shard struct {
	id       int32
	instance *runtime.Instance
	campaign *lease.Campaign
	replica  *replica.Replica
	// term of the newest lead; 0 is none. It orders announcements, it decides nothing.
	term atomic.Int64
}

func newShard(instance *runtime.Instance, o replica.Options) *shard {
	s := &shard{
		id: o.Store.ID(), instance: instance,
		campaign: instance.Leases.Campaign(string(registry.Persistence), o.Store.ID()),
	}
	o.Leads = s.leads
	s.replica = replica.New(o)
	return s
}

func (s *shard) leads() (bool, int64) {
	held, _ := s.campaign.Held()
	return held, s.term.Load()
}

// run keeps the replica. A shard that diverged stops alone: the others go on, and
// the instance is not ready.
func (s *shard) run(ctx context.Context) error {
	rctx, stop := context.WithCancel(ctx)
	g, gctx := errgroup.WithContext(rctx)
	g.Go(func() error {
		defer stop()
		err := s.replica.Run(gctx)
		var diverged *replica.DivergedError
		if errors.As(err, &diverged) {
			s.instance.Log.Error("replica refuses its shard", "shard", s.id, "error", err)
			return nil
		}
		return err
	})
	g.Go(func() error {
		if err := s.replica.CaughtUp(gctx); err != nil {
			return nil //nolint:nilerr // stopped before it could lead
		}
		var lead errgroup.Group
		lead.Go(func() error { s.campaign.Run(gctx); return nil })
		lead.Go(func() error { s.announce(gctx); return nil })
		return lead.Wait()
	})
	return g.Wait()
}

// announce publishes khepri_leader_changed whenever the lease was won.
func (s *shard) announce(ctx context.Context) {
	was := false
	for {
		held, changed := s.campaign.Held()
		if held && !was {
			s.announceLead(ctx)
		}
		was = held
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (s *shard) announceLead(ctx context.Context) {
	term := max(s.term.Load()+1, time.Now().UnixMilli())
	s.term.Store(term)
	key := fmt.Sprintf("%s/%d", registry.Persistence, s.id)
	err := errors.Join(
		s.instance.Publish(ctx, registry.KhepriLeaderChanged, key, &eventsv1.KhepriLeaderChanged{
			NewLeader: s.instance.Node(), Term: term, Role: string(registry.Persistence), Shard: s.id,
		}),
		s.instance.Publish(ctx, registry.LeaderResponsibilitiesAssumed, key, &eventsv1.LeaderResponsibilitiesAssumed{
			LeaderNode: s.instance.Node(), Role: string(registry.Persistence), Shard: s.id, Term: term,
		}))
	if err != nil && ctx.Err() == nil {
		s.instance.Log.Warn("lead not announced; any replica's outcome counts", "shard", s.id, "error", err)
	}
}
