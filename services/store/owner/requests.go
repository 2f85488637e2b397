package owner

import (
	"context"
	"fmt"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/store/core"
	"github.com/exesdb/exesdb/shared/bus"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// chunkBytes is the most that goes to the log as one batch; one write may be larger.
const chunkBytes = 2 << 20

// validate turns requests from offset next on into commands of the term.
func (s *Shard) validate(ctx context.Context, term, next int64, window *window) error {
	reader, err := s.fromAvailable(ctx, registry.StreamWriteRequested, next)
	if err != nil {
		return err
	}
	defer reader.Close()
	out := &commandWriter{shard: s, term: term, window: window}
	if s.opts.Rules != nil {
		rules := &eventsv1.WriteCommandValidated{Kind: eventsv1.CommandKind_COMMAND_KIND_RULES, Rules: s.opts.Rules}
		if err := out.add(ctx, rules); err != nil {
			return err
		}
	}
	for {
		if err := out.flush(ctx); err != nil {
			return err
		}
		records, err := reader.Poll(ctx)
		if gone(reader, err) {
			s.log.Warn("requests expired before they were taken", "error", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("read requests of shard %d: %w", s.opts.Shard, err)
		}
		for _, r := range records {
			if len(r.Value) == 0 {
				continue // filled in by padRequests
			}
			if err := s.take(ctx, r, out); err != nil {
				return err
			}
		}
	}
}

func (s *Shard) take(ctx context.Context, r bus.Record, out *commandWriter) error {
	var req eventsv1.StreamWriteRequested
	if err := proto.Unmarshal(r.Value, &req); err != nil {
		return s.poison(ctx, r, fmt.Errorf("decode stream_write_requested: %w", err))
	}
	cmd, rejection := core.Validate(&req, r.Offset)
	if rejection != nil {
		rejection.Shard = s.opts.Shard
		record, err := s.instance.Record(registry.WriteRejected, rejection.GetStreamId(), s.opts.Shard, rejection)
		if err != nil {
			return err
		}
		if _, err := s.commands.Append(ctx, record.Topic, record.Partition, []bus.Record{record}); err != nil {
			return fmt.Errorf("reject a request of shard %d: %w", s.opts.Shard, err)
		}
		return nil
	}
	return out.add(ctx, cmd)
}

// poison sets a record aside that cannot be read, with the reason.
func (s *Shard) poison(ctx context.Context, r bus.Record, reason error) error {
	s.log.Error("poison record set aside", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "error", reason)
	event := &eventsv1.PoisonRecord{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Reason: reason.Error(),
		Key: r.Key, Value: r.Value, Service: string(registry.Store),
	}
	record, err := s.instance.Record(registry.PoisonRecord, s.instance.Node(), 0, event)
	if err != nil {
		return err
	}
	if _, err := s.commands.Append(ctx, record.Topic, record.Partition, []bus.Record{record}); err != nil {
		return fmt.Errorf("set a poison record aside: %w", err)
	}
	return nil
}

// commandWriter gives commands their term and place and appends them to the
// log in batches, each of which is there as a whole or not at all.
type commandWriter struct {
	shard   *Shard
	term    int64
	seq     int64
	window  *window
	records []bus.Record
	bytes   int
}

func (w *commandWriter) add(ctx context.Context, cmd *eventsv1.WriteCommandValidated) error {
	w.seq++
	cmd.Term, cmd.Seq, cmd.Owner = w.term, w.seq, w.shard.instance.Node()
	record, err := w.shard.command(cmd)
	if err != nil {
		return err
	}
	if len(w.records) > 0 && w.bytes+len(record.Value) > chunkBytes {
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	w.records = append(w.records, record)
	w.bytes += len(record.Value)
	return nil
}

// flush appends what was added. After an error it is unknown whether the batch
// is in the log: the ownership ends, and the next claim reads how far it came.
func (w *commandWriter) flush(ctx context.Context) error {
	if len(w.records) == 0 {
		return nil
	}
	if err := w.window.await(ctx); err != nil {
		return err
	}
	first, err := w.shard.commands.Append(ctx, w.records[0].Topic, w.records[0].Partition, w.records)
	if err != nil {
		return fmt.Errorf("append %d commands to the log of shard %d: %w", len(w.records), w.shard.opts.Shard, err)
	}
	w.window.appended(first+int64(len(w.records))-1, int64(w.bytes))
	w.records, w.bytes = w.records[:0], 0
	return nil
}
