package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/persistence/storage"
	"github.com/exesdb/exesdb/shared/bus"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

const (
	// mostQueued outcomes wait in memory; when publishing is further behind, it
	// reads them from the store.
	mostQueued = 16384
	// mostSent outcomes go out in one call.
	mostSent = 1024
	// stallAfter is how long the acknowledged offset may stand behind what was
	// published before it is published again; the wait doubles up to stallMost.
	stallAfter = 2 * time.Second
	stallMost  = 30 * time.Second
	// retryAfter a failed send; the producer has retried for long by then.
	retryAfter = 200 * time.Millisecond
)

// applied is what the publisher gets to know of one log offset.
type applied struct {
	outcome *eventsv1.Outcome
	// events of an applied append, for the announcement; nil when it is published again.
	events []*eventsv1.NewEvent
	// poison is set for a record that could not be decoded.
	poison *eventsv1.PoisonRecord
}

// publisher sends the outcomes of a shard in log order, behind the applying.
type publisher struct {
	shard    int32
	node     string
	bus      Bus
	envelope Envelope
	store    *storage.Shard
	acked    *Acknowledged
	leads    func() (bool, int64)
	announce bool
	log      *slog.Logger

	// next is the log offset that is published next. Only Run's goroutine uses it.
	next int64
	// deleted are announcements of deletes that must still go out.
	deleted []bus.Record

	mu sync.Mutex
	// queue has committed outcomes, in log order without holes; those before it,
	// and all when it is empty, are in the store.
	queue []applied
	ready chan struct{} // has room for one
}

// offer hands over what was committed. It never blocks.
func (p *publisher) offer(done []applied) {
	p.mu.Lock()
	if len(p.queue)+len(done) > mostQueued {
		p.queue = nil
	}
	p.queue = append(p.queue, done...)
	p.mu.Unlock()
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

// run publishes until ctx is done.
func (p *publisher) run(ctx context.Context) error {
	if err := p.acked.Await(ctx); err != nil {
		return err
	}
	p.next = p.acked.Offset(p.shard) + 1
	stall := stall{acked: p.next - 1, since: time.Now(), wait: stallAfter}
	tick := time.NewTicker(stallAfter / 4)
	defer tick.Stop()
	for {
		batch, err := p.take(mostSent)
		if err != nil {
			return err
		}
		if len(batch) > 0 {
			if err := p.send(ctx, batch); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				p.log.Warn("outcomes not published, trying again", "shard", p.shard, "offset", p.next, "error", err)
				if !wait(ctx, retryAfter) {
					return ctx.Err()
				}
			}
			continue
		}
		select {
		case <-p.ready:
		case <-tick.C:
			p.pendingDeletes(ctx)
			if stall.look(time.Now(), p.acked.Offset(p.shard), p.next-1) {
				if err := p.again(ctx, stall.acked+1); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stall notices that the acknowledged offset does not move.
type stall struct {
	acked int64
	since time.Time
	wait  time.Duration
}

// look tells whether it is time to publish again.
func (s *stall) look(now time.Time, acked, published int64) bool {
	if acked != s.acked || acked >= published {
		*s = stall{acked: acked, since: now, wait: stallAfter}
		return false
	}
	if now.Sub(s.since) < s.wait {
		return false
	}
	s.since, s.wait = now, min(2*s.wait, stallMost)
	return true
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// take gives the next outcomes, from memory or from the store; none when all are
// published.
func (p *publisher) take(most int) ([]applied, error) {
	p.mu.Lock()
	for len(p.queue) > 0 && p.queue[0].outcome.LogOffset < p.next {
		p.queue = p.queue[1:]
	}
	committed := p.store.State().Applied
	if len(p.queue) > 0 && p.queue[0].outcome.PreviousOffset < p.next {
		batch := p.queue[:min(len(p.queue), most):min(len(p.queue), most)]
		p.mu.Unlock()
		return batch, nil
	}
	p.mu.Unlock()
	if p.next > committed {
		return nil, nil
	}
	return p.stored(p.next, committed, most)
}

// stored reads outcomes from the store.
func (p *publisher) stored(from, through int64, most int) ([]applied, error) {
	var batch []applied
	err := p.store.Outcomes(from, func(o *eventsv1.Outcome) bool {
		if o.LogOffset > through || len(batch) >= most {
			return false
		}
		batch = append(batch, applied{outcome: o})
		return true
	})
	return batch, err
}

// again publishes from an offset what was published before: a bounded stretch of
// it, so that a store that is away for long does not fill the topics.
func (p *publisher) again(ctx context.Context, from int64) error {
	p.log.Debug("publishing again: the acknowledged offset stands still", "shard", p.shard, "from", from)
	for sent := 0; sent < mostQueued; {
		batch, err := p.stored(from, p.next-1, mostSent)
		if err != nil || len(batch) == 0 {
			return err
		}
		records, err := p.records(batch)
		if err != nil {
			return err
		}
		if err := p.bus.Send(ctx, records); err != nil {
			if ctx.Err() == nil {
				p.log.Warn("outcomes not published again, going on", "shard", p.shard, "offset", from, "error", err)
			}
			return ctx.Err()
		}
		sent += len(batch)
		from = batch[len(batch)-1].outcome.LogOffset + 1
	}
	return nil
}

// send publishes a batch and moves next past what was written, whether or not
// all was. What goes with the outcomes is best effort, except that deletes stay
// pending until they are announced.
func (p *publisher) send(ctx context.Context, batch []applied) error {
	outcomes, err := p.records(batch)
	if err != nil {
		return err
	}
	deletes, others, err := p.companions(batch)
	if err != nil {
		return err
	}
	all := slices.Concat(outcomes, p.deleted, deletes, others)
	err = p.bus.Send(ctx, all)
	written := len(batch) - missing(err, outcomes[0].Topic, len(batch))
	switch {
	case missing(err, p.envelope.Topic(registry.StreamDeleted), 1) == 0:
		p.deleted = nil
	case written > 0: // else the same batch comes again
		p.deleted = append(p.deleted, deletes...)
	}
	if written > 0 {
		p.next = batch[written-1].outcome.LogOffset + 1
	}
	if written < len(batch) {
		return err
	}
	return nil
}

// pendingDeletes announces those that could not go out with their outcomes.
func (p *publisher) pendingDeletes(ctx context.Context) {
	if len(p.deleted) > 0 && p.bus.Send(ctx, p.deleted) == nil {
		p.deleted = nil
	}
}

// missing is how many of the count records of a topic were not written.
func missing(err error, topic string, count int) int {
	if err == nil {
		return 0
	}
	var partial *bus.PartialError
	if !errors.As(err, &partial) {
		return count
	}
	for _, f := range partial.Failed {
		if f.Topic == topic {
			return max(count-f.Written, 1)
		}
	}
	return 0
}

// records are one record per outcome, in the topic of what this replica is now.
func (p *publisher) records(batch []applied) ([]bus.Record, error) {
	leads, _ := p.leads()
	records := make([]bus.Record, 0, len(batch))
	for _, a := range batch {
		o := a.outcome
		event, msg := registry.EventsReplicated, proto.Message(&eventsv1.EventsReplicated{
			StreamId: o.StreamId, ReplicatedTo: []string{p.node}, WriteId: o.WriteId, Outcome: o,
		})
		if leads {
			event, msg = registry.EventsPersisted, &eventsv1.EventsPersisted{
				StreamId: o.StreamId, NewVersion: o.NewVersion, EventIds: o.EventIds, WriteId: o.WriteId, Outcome: o, Node: p.node,
			}
		}
		var err error
		if records, err = p.add(records, event, o.StreamId, p.shard, msg); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// companions go out with the outcomes of a batch: the leader's announcements of
// deletes and of writes, and everybody's poison records.
func (p *publisher) companions(batch []applied) (deletes, others []bus.Record, err error) {
	leads, _ := p.leads()
	for _, a := range batch {
		if a.poison != nil {
			if others, err = p.add(others, registry.PoisonRecord, p.node, 0, a.poison); err != nil {
				return nil, nil, err
			}
		}
		if !leads {
			continue
		}
		o := a.outcome
		if deletes, err = p.streamDeleted(deletes, o); err != nil {
			return nil, nil, err
		}
		if !p.announce || len(a.events) == 0 {
			continue
		}
		started := &eventsv1.PersistenceWriteStarted{
			StreamId: o.StreamId, WriteId: o.WriteId, LogOffset: o.LogOffset,
			Events: make([]*eventsv1.EventHeader, len(a.events)),
		}
		for i, e := range a.events {
			started.Events[i] = &eventsv1.EventHeader{EventId: e.EventId, EventType: e.EventType}
		}
		if others, err = p.add(others, registry.PersistenceWriteStarted, o.StreamId, p.shard, started); err != nil {
			return nil, nil, err
		}
	}
	return deletes, others, nil
}

// streamDeleted announces an applied delete.
func (p *publisher) streamDeleted(to []bus.Record, o *eventsv1.Outcome) ([]bus.Record, error) {
	tombstone := o.Command == eventsv1.CommandKind_COMMAND_KIND_TOMBSTONE
	if o.Kind != eventsv1.OutcomeKind_OUTCOME_KIND_APPLIED || !tombstone && o.Command != eventsv1.CommandKind_COMMAND_KIND_SOFT_DELETE {
		return to, nil
	}
	return p.add(to, registry.StreamDeleted, o.StreamId, p.shard, &eventsv1.StreamDeleted{
		StreamId: o.StreamId, Version: o.NewVersion, Tombstone: tombstone, WriteId: o.WriteId, LogOffset: o.LogOffset,
	})
}

func (p *publisher) add(to []bus.Record, event, key string, partition int32, msg proto.Message) ([]bus.Record, error) {
	r, err := p.envelope.Record(event, key, partition, msg)
	if err != nil {
		return nil, fmt.Errorf("publish %s: %w", event, err)
	}
	return append(to, r), nil
}
