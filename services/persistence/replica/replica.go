// Package replica keeps one shard's replica: it reads the log, lets the core
// decide, commits with one fsync per drained batch, publishes the outcomes
// behind that, and serves history. The README has the state diagram.
package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/persistence/core"
	"github.com/exesdb/exesdb/services/persistence/storage"
	"github.com/exesdb/exesdb/shared/bus"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// diskRetry is how often a full disk is looked at again.
const diskRetry = time.Second

// Options of a replica; all but Metrics are required.
type Options struct {
	// Node names this replica.
	Node     string
	Store    *storage.Shard
	Bus      Bus
	Envelope Envelope
	// Publish publishes an event of the control lane.
	Publish func(ctx context.Context, event, key string, msg proto.Message) error
	// Acknowledged is run by the caller.
	Acknowledged *Acknowledged
	// Leads tells whether this replica leads its shard, and its term.
	Leads func() (leads bool, term int64)
	// Alone tells whether no other replica of the shard is known.
	Alone func() bool
	// AnnounceWrites publishes persistence_write_started for every applied write.
	AnnounceWrites bool
	Metrics        *Metrics
	Log            *slog.Logger
}

// Replica is one shard's replica.
type Replica struct {
	opts      Options
	shard     int32
	topic     string
	state     core.State
	progress  *progress
	publisher *publisher
	history   *historyServer
}

// New makes a replica; Run does its work.
func New(o Options) *Replica {
	state := o.Store.State()
	r := &Replica{
		opts: o, shard: o.Store.ID(), topic: o.Envelope.Topic(registry.WriteCommandValidated),
		state: state, progress: newProgress(state),
	}
	r.publisher = &publisher{
		shard: r.shard, node: o.Node, bus: o.Bus, envelope: o.Envelope, store: o.Store, acked: o.Acknowledged,
		leads: o.Leads, announce: o.AnnounceWrites, log: o.Log, ready: make(chan struct{}, 1),
	}
	r.history = &historyServer{
		shard: r.shard, node: o.Node, bus: o.Bus, envelope: o.Envelope, store: o.Store, progress: r.progress,
		leads: o.Leads, alone: o.Alone, log: o.Log,
		admitted: make(chan struct{}, mostWaiting), reading: make(chan struct{}, mostReading), replies: make(chan bus.Record, 64),
	}
	return r
}

// Progress says how far the replica has come.
func (r *Replica) Progress() *eventsv1.ShardProgress {
	_, p := r.progress.snapshot()
	p.Shard = r.shard
	p.Leads, p.Term = r.opts.Leads()
	return p
}

// CaughtUp blocks until the replica has applied the log as it stood at the start,
// or ctx is done.
func (r *Replica) CaughtUp(ctx context.Context) error { return r.progress.caughtUp(ctx) }

// Phase says what the replica does now.
func (r *Replica) Phase() Phase {
	phase, _ := r.progress.snapshot()
	return phase
}

// Run works until ctx is done. A *DivergedError means that this shard's log
// cannot be applied here; it was published before Run returns.
func (r *Replica) Run(ctx context.Context) error {
	err := r.run(ctx)
	var diverged *DivergedError
	if !errors.As(err, &diverged) {
		return err
	}
	r.progress.set(Diverged)
	perr := r.opts.Publish(ctx, registry.ReplicaDiverged, strconv.Itoa(int(r.shard)), &eventsv1.ReplicaDiverged{
		Node: r.opts.Node, Shard: r.shard, LogOffset: diverged.Offset, Reason: diverged.Error(), Repair: diverged.Repair,
		ExpectedHash: diverged.Expected, ActualHash: diverged.Actual,
	})
	return errors.Join(err, perr)
}

func (r *Replica) run(ctx context.Context) error {
	end, err := r.continues(ctx)
	if err != nil {
		return err
	}
	if end > r.state.Applied+1 {
		err := r.opts.Publish(ctx, registry.SynchronizationRequired, r.opts.Node, &eventsv1.SynchronizationRequired{
			RecoveringNode: r.opts.Node, SyncFromVersion: r.state.Applied + 1, Shard: r.shard,
		})
		if err != nil && ctx.Err() == nil {
			r.opts.Log.Warn("synchronization_required not sent, going on", "shard", r.shard, "error", err)
		}
	}
	r.progress.begin(end - 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.apply(ctx) })
	g.Go(func() error { return r.publisher.run(ctx) })
	g.Go(func() error { return r.history.run(ctx) })
	return g.Wait()
}

// apply drains the log.
func (r *Replica) apply(ctx context.Context) error {
	reader, err := r.opts.Bus.Reader(bus.ReaderOptions{
		Topic: r.topic, Partition: r.shard, Offset: r.state.Applied + 1, Dense: true, Prefetch: true,
	})
	if err != nil {
		return fmt.Errorf("read log of shard %d: %w", r.shard, err)
	}
	defer func() { _ = reader.Close() }()
	for {
		records, err := reader.Poll(ctx)
		if err != nil {
			return r.readError(err)
		}
		began := time.Now()
		done, halt := r.batch(ctx, records)
		if len(done) > 0 {
			r.progress.advance(r.state)
			r.publisher.offer(done)
			r.opts.Metrics.observe(r.shard, done, time.Since(began))
		}
		if halt != nil {
			return halt
		}
	}
}

// batch applies and commits what was drained. When a record cannot be applied,
// those before it are committed and the error is returned with them.
func (r *Replica) batch(ctx context.Context, records []bus.Record) ([]applied, error) {
	commands := make([]core.Command, len(records))
	decoded := make([]*eventsv1.WriteCommandValidated, len(records))
	for i, rec := range records {
		commands[i] = decode(rec)
		decoded[i] = commands[i].Record
	}
	view, err := r.opts.Store.ReadAhead(decoded)
	if err != nil {
		return nil, fmt.Errorf("apply log of shard %d: %w", r.shard, err)
	}
	overlay, batch := core.NewOverlay(view), r.opts.Store.NewBatch()
	defer func() { _ = batch.Close() }()
	done := make([]applied, 0, len(records))
	state := r.state
	var halt error
	for i, cmd := range commands {
		next, changes, err := core.Apply(state, cmd, overlay)
		if err != nil {
			halt = r.applyError(cmd.Offset, err)
			break
		}
		state = next
		overlay.Add(changes)
		if err := batch.Add(state, changes, rawOf(records[i])); err != nil {
			return nil, fmt.Errorf("apply log offset %d of shard %d: %w", cmd.Offset, r.shard, err)
		}
		done = append(done, applied{outcome: changes.Outcome, events: changes.Events, poison: r.poison(records[i], cmd)})
	}
	if len(done) == 0 {
		return nil, halt
	}
	if err := r.commit(ctx, batch); err != nil {
		return nil, err
	}
	r.state = state
	return done, halt
}

// commit waits for space when the disk is full; reads go on meanwhile.
func (r *Replica) commit(ctx context.Context, batch *storage.Batch) error {
	for {
		err := batch.Commit()
		if !errors.Is(err, storage.ErrDiskFull) {
			return err
		}
		if r.Phase() != FullDisk {
			r.opts.Log.Error("writes stop until there is space", "shard", r.shard, "error", err)
			r.progress.set(FullDisk)
		}
		if !wait(ctx, diskRetry) {
			return ctx.Err()
		}
	}
}

func (r *Replica) poison(rec bus.Record, cmd core.Command) *eventsv1.PoisonRecord {
	if cmd.Record != nil {
		return nil
	}
	return &eventsv1.PoisonRecord{
		Topic: r.topic, Partition: r.shard, Offset: rec.Offset, Reason: cmd.Undecodable,
		Key: rec.Key, Value: rec.Value, Service: string(registry.Persistence),
	}
}
