package owner

import (
	"context"
	"errors"
	"fmt"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/shared/claim"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// claim appends a claim to the log; its offset is the term.
func (s *Shard) claim(ctx context.Context) (int64, error) {
	record, err := s.command(&eventsv1.WriteCommandValidated{
		Kind: eventsv1.CommandKind_COMMAND_KIND_CLAIM, Owner: s.instance.Node(),
	})
	if err != nil {
		return 0, err
	}
	term, err := s.commands.Append(ctx, record.Topic, record.Partition, []bus.Record{record})
	if err != nil {
		return 0, fmt.Errorf("claim shard %d: %w", s.opts.Shard, err)
	}
	return term, nil
}

func (s *Shard) command(cmd *eventsv1.WriteCommandValidated) (bus.Record, error) {
	return s.instance.Record(registry.WriteCommandValidated, cmd.GetStreamId(), s.opts.Shard, cmd)
}

// recoverFence reads the log from what was acknowledged to our own claim: the
// log itself says how far its requests came, so neither a lost lock nor a
// committed offset can lose or double one.
func (s *Shard) recoverFence(ctx context.Context, place *eventsv1.ShardAcknowledged, term int64) (claim.Fence, error) {
	fence := claim.Fence{Term: place.GetTerm(), Seq: place.GetSeq(), RequestOffset: place.GetRequestOffset()}
	if place.GetTerm() > term {
		return fence, errSuperseded
	}
	if place.GetLogOffset() >= term {
		return fence, nil // our claim is announced already, and nothing counts after it yet
	}
	reader, err := bus.NewReader(s.instance.Client, bus.ReaderOptions{
		Topic: s.instance.Topic(registry.WriteCommandValidated), Partition: s.opts.Shard, Offset: place.GetLogOffset() + 1, Dense: true,
	})
	if err != nil {
		return fence, fmt.Errorf("read the log of shard %d: %w", s.opts.Shard, err)
	}
	defer reader.Close()
	for {
		records, err := reader.Poll(ctx)
		if err != nil {
			return fence, fmt.Errorf("read the log of shard %d up to its claim: %w", s.opts.Shard, err)
		}
		for _, r := range records {
			if r.Offset > term {
				return fence, nil
			}
			var cmd eventsv1.WriteCommandValidated
			if proto.Unmarshal(r.Value, &cmd) != nil {
				continue // a poison record counts for nobody: persistence skips it too
			}
			if _, err := fence.Admit(r.Offset, &cmd); err != nil {
				return fence, err
			}
			if r.Offset == term {
				return fence, nil
			}
		}
	}
}

// padRequests makes sure that the next request has an offset that no command
// has used. Only a broker that lost the end of its request topic (a power cut
// under the embedded one) is behind; its place is filled with empty records,
// because a request at a used offset would be taken for a repeated one.
func (s *Shard) padRequests(ctx context.Context, used int64) error {
	topic := s.instance.Topic(registry.StreamWriteRequested)
	for {
		_, next, err := s.instance.Client.Watermark(ctx, topic, s.opts.Shard)
		if err != nil {
			return fmt.Errorf("read the end of the requests of shard %d: %w", s.opts.Shard, err)
		}
		missing := used + 1 - next
		if missing <= 0 {
			return nil
		}
		s.log.Warn("request topic lost its end; filling it", "records", missing)
		fill := make([]bus.Record, min(missing, 10_000))
		if _, err := s.commands.Append(ctx, topic, s.opts.Shard, fill); err != nil {
			return fmt.Errorf("fill the requests of shard %d: %w", s.opts.Shard, err)
		}
	}
}

// fromAvailable opens a reader at offset, or at the nearest place that the
// topic still has: what is gone there is repeated by whoever wrote it.
func (s *Shard) fromAvailable(ctx context.Context, event string, offset int64) (*bus.Reader, error) {
	topic := s.instance.Topic(event)
	oldest, next, err := s.instance.Client.Watermark(ctx, topic, s.opts.Shard)
	if err != nil {
		return nil, fmt.Errorf("read the ends of %s: %w", topic, err)
	}
	return bus.NewReader(s.instance.Client, bus.ReaderOptions{
		Topic: topic, Partition: s.opts.Shard, Offset: min(max(offset, oldest), next), Prefetch: true,
	})
}

// gone tells whether a reader's place was removed by retention, and moves it to what is there.
func gone(reader *bus.Reader, err error) bool {
	var moved *bus.OffsetGoneError
	if !errors.As(err, &moved) {
		return false
	}
	reader.SeekTo(min(max(moved.Asked, moved.Oldest), moved.Next))
	return true
}
