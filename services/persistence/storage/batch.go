package storage

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"github.com/exesdb/exesdb/services/persistence/core"
)

// Batch gathers the changes of consecutive log records for one commit. What it
// writes does not depend on where batches begin and end.
type Batch struct {
	shard *Shard
	batch *pebble.Batch
	meta  meta
	// scratch for one key and one value
	key, value []byte
	// scratch for one event, and for the names that a write is indexed by
	event []byte
	named map[name]struct{}
}

// name of a type or a tag.
type name struct {
	prefix byte
	term   string
}

// NewBatch begins where the newest commit ended. Commit or Close it.
func (s *Shard) NewBatch() *Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.meta
	m.Raw = append([]rawChunk(nil), m.Raw...)
	return &Batch{shard: s, batch: s.db.NewBatch(), meta: m, named: make(map[name]struct{})}
}

// Add takes the changes of one record, the state after it and the record itself.
func (b *Batch) Add(state core.State, ch core.Changes, raw RawRecord) error {
	b.meta.State = state
	out := ch.Outcome
	for _, id := range ch.Forget {
		if err := b.batch.Delete(nameKey(b.key[:0], prefixWrite, id), nil); err != nil {
			return fmt.Errorf("forget write %q: %w", id, err)
		}
	}
	if ch.Remember {
		b.value = appendWrite(b.value[:0], ch.Write)
		if err := b.set(nameKey(b.key[:0], prefixWrite, out.WriteId)); err != nil {
			return err
		}
	}
	if ch.HeadChanged {
		b.value = appendHead(b.value[:0], ch.Head)
		if err := b.set(nameKey(b.key[:0], prefixHead, out.StreamId)); err != nil {
			return err
		}
		if len(ch.Events) == 0 {
			b.meta.Deletes++
		}
	}
	if len(ch.Events) > 0 {
		if err := b.events(out, ch.Events); err != nil {
			return err
		}
	}
	var err error
	if b.value, err = (proto.MarshalOptions{Deterministic: true}).MarshalAppend(b.value[:0], out); err != nil {
		return fmt.Errorf("encode outcome at log offset %d: %w", out.LogOffset, err)
	}
	if err := b.set(offsetKey(b.key[:0], prefixOutcome, out.LogOffset)); err != nil {
		return err
	}
	return b.raw(raw, ch.Events)
}

// events stores the events of a write and indexes them.
func (b *Batch) events(out *eventsv1.Outcome, events []*eventsv1.NewEvent) error {
	b.meta.Events += int64(len(events))
	b.value = b.value[:0]
	for i, e := range events {
		b.event = appendRecorded(b.event[:0], e, recorded{
			stream: out.StreamId, version: out.FirstVersion + int64(i), createdAtMS: out.CreatedAtMs,
			shard: b.shard.id, at: position{offset: out.LogOffset, index: int32(i)},
		})
		b.value = appendEntry(b.value, b.event)
	}
	if err := b.set(offsetKey(b.key[:0], prefixBody, out.LogOffset)); err != nil {
		return err
	}
	b.value = appendSpan(b.value[:0], span{offset: out.LogOffset, count: int64(len(events))})
	if err := b.set(versionKey(b.key[:0], out.StreamId, out.FirstVersion)); err != nil {
		return err
	}
	for i, e := range events {
		b.value = appendPlace(b.value[:0], core.Place{Stream: out.StreamId, Version: out.FirstVersion + int64(i), Offset: out.LogOffset})
		if err := b.set(nameKey(b.key[:0], prefixEvent, e.EventId)); err != nil {
			return err
		}
	}
	return b.index(out, events)
}

// index enters a write under the category of its stream and the types and tags of its events.
func (b *Batch) index(out *eventsv1.Outcome, events []*eventsv1.NewEvent) error {
	b.value = b.value[:0]
	if err := b.set(termKey(b.key[:0], prefixCategory, Category(out.StreamId), out.LogOffset)); err != nil {
		return err
	}
	clear(b.named)
	for _, e := range events {
		if err := b.enter(name{prefixType, e.EventType}, out.LogOffset); err != nil {
			return err
		}
		for _, tag := range e.Tags {
			if err := b.enter(name{prefixTag, tag}, out.LogOffset); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *Batch) enter(n name, offset int64) error {
	if _, twice := b.named[n]; twice {
		return nil
	}
	b.named[n] = struct{}{}
	return b.set(termKey(b.key[:0], n.prefix, n.term, offset))
}

func (b *Batch) raw(r RawRecord, stored []*eventsv1.NewEvent) error {
	b.value = appendRaw(b.value[:0], r, stored)
	if err := b.set(offsetKey(b.key[:0], prefixRaw, r.Offset)); err != nil {
		return err
	}
	if keep := b.meta.trim(r); keep >= 0 {
		if err := b.batch.DeleteRange(offsetKey(nil, prefixRaw, 0), offsetKey(nil, prefixRaw, keep), nil); err != nil {
			return fmt.Errorf("trim raw records: %w", err)
		}
	}
	return nil
}

// set writes the scratch value under a key made in the scratch key.
func (b *Batch) set(key []byte) error {
	b.key = key
	if err := b.batch.Set(key, b.value, nil); err != nil {
		return fmt.Errorf("write %c key: %w", key[0], err)
	}
	return nil
}

// Commit makes everything durable with one fsync, the log offset included. When
// it refuses with ErrDiskFull nothing has changed and it may be called again.
func (b *Batch) Commit() error {
	if err := b.shard.ensureSpace(b.batch.Len()); err != nil {
		return err
	}
	b.value = b.meta.append(b.value[:0])
	if err := b.set(append(b.key[:0], prefixMeta)); err != nil {
		return err
	}
	if err := b.batch.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("commit shard %d through log offset %d: %w", b.shard.id, b.meta.Applied, err)
	}
	b.shard.mu.Lock()
	b.shard.meta = b.meta
	b.shard.mu.Unlock()
	return b.Close()
}

// Close drops what was not committed.
func (b *Batch) Close() error {
	if b.batch == nil {
		return nil
	}
	err := b.batch.Close()
	b.batch = nil
	return err
}
