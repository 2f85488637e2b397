// Package owner runs the store's work on one shard: it claims the shard in the
// log, turns requests into commands, and announces outcomes. See README.md for
// the state diagram.
package owner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/store/core"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/shared/lease"
	"github.com/exesdb/exesdb/shared/runtime"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Options of a Shard.
type Options struct {
	Shard  int32
	Quorum int // replicas that must report before a write is acknowledged
	Rules  *eventsv1.ApplyRules
	// Window bounds the commands that wait for their outcome.
	Window int
	// Places has what was acknowledged before.
	Places *Places
}

// Shard is this instance's work on one shard.
type Shard struct {
	opts     Options
	instance *runtime.Instance
	campaign *lease.Campaign
	log      *slog.Logger

	commands *bus.Producer // the log, and rejections of invalid requests
	answers  *bus.Producer // acknowledgements, rejections and the shard's place

	owning       atomic.Bool
	term         atomic.Int64
	acknowledged atomic.Int64
	halted       atomic.Pointer[string]
}

// windowBytes bounds the commands that wait for their outcome, in bytes: well
// below what a bounded log keeps.
const windowBytes = 16 << 20

// errSuperseded ends an ownership: the log shows a newer claim.
var errSuperseded = errors.New("the log has a newer claim")

// errLeaseLost ends an ownership: somebody else holds the lease.
var errLeaseLost = errors.New("the lease went to another instance")

// NewShard makes the work on one shard; Run does it.
func NewShard(instance *runtime.Instance, opts Options) *Shard {
	s := &Shard{
		opts: opts, instance: instance,
		campaign: instance.Leases.Campaign(string(registry.Store), opts.Shard),
		log:      instance.Log.With("shard", opts.Shard),
		commands: bus.NewProducer(instance.Client),
		answers:  bus.NewProducer(instance.Client),
	}
	s.term.Store(-1)
	s.acknowledged.Store(-1)
	return s
}

// Progress is the shard's part of the heartbeat.
func (s *Shard) Progress() *eventsv1.ShardProgress {
	return &eventsv1.ShardProgress{
		Shard: s.opts.Shard, LogOffset: s.acknowledged.Load(), Term: s.term.Load(),
		Leads: s.owning.Load(), CaughtUp: s.halted.Load() == nil,
	}
}

// Owning tells whether the shard is owned and works.
func (s *Shard) Owning() bool { return s.owning.Load() }

// Settled tells whether the shard is owned: by this instance, or by the one
// that holds the lease.
func (s *Shard) Settled() bool {
	held, _ := s.campaign.Held()
	return s.owning.Load() || !held && s.campaign.HeldElsewhere()
}

// Run campaigns for the shard and owns it whenever it holds the lease, until ctx is done.
func (s *Shard) Run(ctx context.Context) error {
	defer s.commands.Close()
	defer s.answers.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.campaign.Run(ctx); return nil })
	g.Go(func() error { return s.ownAgain(ctx) })
	return g.Wait()
}

// ownAgain starts an ownership after each that ended; every one has a new claim.
func (s *Shard) ownAgain(ctx context.Context) error {
	pause := time.Duration(0)
	for s.campaign.Await(ctx) {
		began := time.Now()
		err := s.own(ctx)
		s.owning.Store(false)
		var diverged *core.DivergedError
		switch {
		case ctx.Err() != nil:
		case errors.As(err, &diverged):
			s.halt(ctx, diverged)
			<-ctx.Done()
		case errors.Is(err, errSuperseded):
			s.log.Info("ownership ended", "reason", err)
			s.campaign.Yield(ctx)
		default:
			s.log.Warn("ownership ended, claiming again", "error", err)
		}
		// Claims that fail at once must not flood the log.
		if time.Since(began) > 5*time.Second {
			pause = 0
		}
		pause = min(max(2*pause, 50*time.Millisecond), 2*time.Second)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return nil
}

// halt reports replicas that disagree; the shard takes no more writes.
func (s *Shard) halt(ctx context.Context, d *core.DivergedError) {
	reason := d.Error()
	s.halted.Store(&reason)
	s.log.Error("shard halted: replicas disagree", "error", d)
	event := &eventsv1.ReplicaDiverged{
		Node: d.Node, Shard: s.opts.Shard, LogOffset: d.LogOffset, Reason: reason,
		Repair:       "stop the replica that is wrong (compare with `exesdb verify`), remove its shard directory and start it again: it rebuilds from the log",
		ExpectedHash: d.Want, ActualHash: d.Got,
	}
	if err := s.instance.Publish(ctx, registry.ReplicaDiverged, fmt.Sprint(s.opts.Shard), event); err != nil {
		s.log.Error("publish replica_diverged", "error", err)
	}
}

// own is one ownership, from claim to the end of it.
func (s *Shard) own(ctx context.Context) error {
	term, err := s.claim(ctx)
	if err != nil {
		return err
	}
	place, err := s.opts.Places.At(ctx, s.opts.Shard)
	if err != nil {
		return err
	}
	fence, err := s.recoverFence(ctx, place, term)
	if err != nil {
		return err
	}
	if err := s.padRequests(ctx, fence.RequestOffset); err != nil {
		return err
	}
	s.term.Store(term)
	s.acknowledged.Store(place.GetLogOffset())
	s.announceLeadership(ctx, term)

	window := newWindow(s.opts.Window, windowBytes, place.GetLogOffset())
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.validate(gctx, term, fence.RequestOffset+1, window) })
	g.Go(func() error { return s.announce(gctx, term, place, window) })
	g.Go(func() error { return s.watchLease(gctx) })
	s.owning.Store(true)
	return g.Wait()
}

func (s *Shard) watchLease(ctx context.Context) error {
	for {
		held, changed := s.campaign.Held()
		if !held {
			return errLeaseLost
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Shard) announceLeadership(ctx context.Context, term int64) {
	key := fmt.Sprintf("%s/%d", registry.Store, s.opts.Shard)
	change := &eventsv1.KhepriLeaderChanged{
		NewLeader: s.instance.Node(), Term: term, Role: string(registry.Store), Shard: s.opts.Shard,
	}
	assumed := &eventsv1.LeaderResponsibilitiesAssumed{
		LeaderNode: s.instance.Node(), Role: string(registry.Store), Shard: s.opts.Shard, Term: term,
	}
	err := errors.Join(
		s.instance.Publish(ctx, registry.KhepriLeaderChanged, key, change),
		s.instance.Publish(ctx, registry.LeaderResponsibilitiesAssumed, key, assumed))
	if err != nil {
		s.log.Warn("leadership not announced; the claim in the log counts", "error", err)
	}
}
