package owner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/store/core"
	"github.com/exesdb/exesdb/shared/bus"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// placeEvery is how often the shard's place is kept for the next owner; what
// was announced since is announced again by that one, and dropped by readers.
const placeEvery = 100 * time.Millisecond

// report is one poll of an outcome topic.
type report struct {
	source  core.Source
	records []bus.Record
	next    int64
}

// announce acknowledges and rejects writes as enough replicas report their outcome.
func (s *Shard) announce(ctx context.Context, term int64, place *eventsv1.ShardAcknowledged, window *window) error {
	reports := make(chan report)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return s.follow(ctx, registry.EventsPersisted, core.Persisted, place.GetPersistedOffset(), reports)
	})
	g.Go(func() error {
		return s.follow(ctx, registry.EventsReplicated, core.Replicated, place.GetReplicatedOffset(), reports)
	})
	g.Go(func() error { return s.join(ctx, term, place, window, reports) })
	return g.Wait()
}

func (s *Shard) follow(ctx context.Context, event string, source core.Source, offset int64, reports chan<- report) error {
	reader, err := s.fromAvailable(ctx, event, offset)
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		records, err := reader.Poll(ctx)
		if gone(reader, err) {
			continue // replicas repeat what was not announced
		}
		if err != nil {
			return fmt.Errorf("read %s of shard %d: %w", event, s.opts.Shard, err)
		}
		select {
		case reports <- report{source, records, reader.Next()}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Shard) join(ctx context.Context, term int64, place *eventsv1.ShardAcknowledged, window *window, reports <-chan report) error {
	join := core.NewJoin(s.opts.Shard, s.opts.Quorum, proto.Clone(place).(*eventsv1.ShardAcknowledged))
	next := [2]int64{place.GetPersistedOffset(), place.GetReplicatedOffset()}
	tick := time.NewTicker(placeEvery)
	defer tick.Stop()
	kept := place.GetLogOffset()
	for {
		select {
		case r := <-reports:
			next[r.source] = r.next
			if err := s.takeOutcomes(join, term, r); err != nil {
				return errors.Join(s.release(ctx, join, window), err)
			}
			if err := s.release(ctx, join, window); err != nil {
				return err
			}
		case <-tick.C:
			if join.Acknowledged() == kept {
				continue
			}
			if err := s.keepPlace(ctx, join.State(next[core.Persisted], next[core.Replicated]), term); err != nil {
				return err
			}
			kept = join.Acknowledged()
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.lastWord(ctx, join.State(next[core.Persisted], next[core.Replicated]), term))
		}
	}
}

// lastWord keeps the place for the next owner; without it that one only repeats more.
func (s *Shard) lastWord(ctx context.Context, place *eventsv1.ShardAcknowledged, term int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return s.keepPlace(ctx, place, term)
}

// takeOutcomes gives one poll to the join. An outcome of a newer term ends the ownership.
func (s *Shard) takeOutcomes(join *core.Join, term int64, r report) error {
	for _, record := range r.records {
		node, outcome, err := decodeOutcome(r.source, record)
		if err != nil {
			s.log.Error("poison outcome left aside; replicas repeat outcomes", "topic", record.Topic, "offset", record.Offset, "error", err)
			continue
		}
		whole, err := join.Report(node, r.source, record.Offset, outcome)
		if err != nil {
			return err
		}
		if !whole {
			s.log.Debug("outcomes missing before this one; the replica repeats them", "node", node, "offset", outcome.GetLogOffset())
		}
		if outcome.GetTerm() > term {
			return errSuperseded
		}
	}
	return nil
}

func decodeOutcome(source core.Source, record bus.Record) (string, *eventsv1.Outcome, error) {
	if source == core.Persisted {
		var e eventsv1.EventsPersisted
		if err := proto.Unmarshal(record.Value, &e); err != nil {
			return "", nil, fmt.Errorf("decode events_persisted: %w", err)
		}
		if e.GetOutcome() == nil || e.GetNode() == "" {
			return "", nil, errors.New("events_persisted has no outcome or no node")
		}
		return e.GetNode(), e.GetOutcome(), nil
	}
	var e eventsv1.EventsReplicated
	if err := proto.Unmarshal(record.Value, &e); err != nil {
		return "", nil, fmt.Errorf("decode events_replicated: %w", err)
	}
	if len(e.GetReplicatedTo()) == 0 || e.GetOutcome() == nil {
		return "", nil, errors.New("events_replicated has no outcome or names no replica")
	}
	return e.GetReplicatedTo()[0], e.GetOutcome(), nil
}

// release announces what enough replicas hold, in log order.
func (s *Shard) release(ctx context.Context, join *core.Join, window *window) error {
	acks, rejections := join.Release()
	var records []bus.Record
	for _, ack := range acks {
		record, err := s.instance.Record(registry.WriteAcknowledged, ack.GetStreamId(), s.opts.Shard, ack)
		if err != nil {
			return err
		}
		records = append(records, record)
	}
	for _, rejection := range rejections {
		record, err := s.instance.Record(registry.WriteRejected, rejection.GetStreamId(), s.opts.Shard, rejection)
		if err != nil {
			return err
		}
		records = append(records, record)
	}
	if len(records) > 0 {
		if err := s.answers.Send(ctx, records); err != nil {
			return fmt.Errorf("announce %d outcomes of shard %d: %w", len(records), s.opts.Shard, err)
		}
	}
	s.acknowledged.Store(join.Acknowledged())
	window.announced(join.Acknowledged())
	return nil
}

func (s *Shard) keepPlace(ctx context.Context, place *eventsv1.ShardAcknowledged, term int64) error {
	place.Owner, place.OwnerTerm = s.instance.Node(), term
	record, err := s.instance.Record(registry.ShardAcknowledged, fmt.Sprint(s.opts.Shard), 0, place)
	if err != nil {
		return err
	}
	if _, err := s.answers.Append(ctx, record.Topic, record.Partition, []bus.Record{record}); err != nil {
		return fmt.Errorf("keep the place of shard %d: %w", s.opts.Shard, err)
	}
	return nil
}
