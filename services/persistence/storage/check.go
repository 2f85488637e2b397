package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"github.com/exesdb/exesdb/services/persistence/core"
)

// Finding is something that a check found wrong.
type Finding struct {
	Shard int32
	// What is wrong, with the key that it is about.
	What string
}

// CheckProgress says how far a check is.
type CheckProgress struct {
	Shard int32
	// Part is what is checked now: outcomes, events, streams, writes or indexes.
	Part string
	// Done keys of the part.
	Done int64
}

// progressEvery keys the progress callback is called.
const progressEvery = 10_000

// check is one under way. It reads a snapshot, so that writes may go on.
type check struct {
	shard    *Shard
	ctx      context.Context //nolint:containedctx // the check lives as long as one call
	snap     *pebble.Snapshot
	meta     meta
	progress func(CheckProgress)
	found    func(Finding)

	bodyWrites int64          // with events
	events     int64          // of all of them
	named      map[byte]int64 // distinct types and tags of each write, added up
}

// Check reads the whole shard and reports what is not as it must be: outcomes
// dense and chained, events where their outcomes say, versions without gaps,
// ids unique, heads, memories and indexes in agreement. It changes nothing.
// Either callback may be nil. An error is one of reading, not a finding.
func (s *Shard) Check(ctx context.Context, progress func(CheckProgress), found func(Finding)) error {
	if progress == nil {
		progress = func(CheckProgress) {}
	}
	if found == nil {
		found = func(Finding) {}
	}
	c := &check{shard: s, ctx: ctx, snap: s.db.NewSnapshot(), progress: progress, found: found, named: map[byte]int64{}}
	err := c.run()
	if err := errors.Join(err, c.snap.Close()); err != nil {
		return fmt.Errorf("check shard %d: %w", s.id, err)
	}
	return nil
}

func (c *check) run() error {
	var err error
	if c.meta, err = loadMeta(c.snap); err != nil {
		return err
	}
	return errors.Join(c.outcomes(), c.bodies(), c.streams(), c.writes(), c.indexes())
}

func (c *check) report(format string, args ...any) {
	c.found(Finding{Shard: c.shard.id, What: fmt.Sprintf(format, args...)})
}

// each calls fn for every key with a prefix, and counts them.
func (c *check) each(part string, prefix byte, fn func(key, value []byte) error) (int64, error) {
	it, err := c.snap.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
	if err != nil {
		return 0, err
	}
	var n int64
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if n%progressEvery == 0 {
			c.progress(CheckProgress{Shard: c.shard.id, Part: part, Done: n})
			err = c.ctx.Err()
		}
		n++
		if err == nil {
			err = fn(it.Key()[1:], it.Value())
		}
	}
	err = errors.Join(err, it.Close())
	c.progress(CheckProgress{Shard: c.shard.id, Part: part, Done: n})
	return n, err
}

// outcomes must be chained without holes up to what is applied, and their
// events must be in the log order's place.
func (c *check) outcomes() error {
	writes, err := newWrites(c.snap)
	if err != nil {
		return err
	}
	before, hash := int64(-1), uint64(0)
	_, err = c.each("outcomes", prefixOutcome, func(key, value []byte) error {
		o := new(eventsv1.Outcome)
		if proto.Unmarshal(value, o) != nil || len(key) != 8 {
			c.report("outcome %x cannot be decoded", key)
			return nil //nolint:nilerr // a finding, and the check goes on
		}
		at := int64(binary.BigEndian.Uint64(key))
		if o.LogOffset != at {
			c.report("outcome at log offset %d is that of %d", at, o.LogOffset)
		}
		if o.PreviousOffset != before {
			c.report("outcome at log offset %d follows %d, the one before it is at %d", at, o.PreviousOffset, before)
		}
		if want := core.Chain(hash, o); o.OutcomeHash != want {
			c.report("outcome at log offset %d has hash %x, want %x", at, o.OutcomeHash, want)
		}
		before, hash = at, o.OutcomeHash
		if o.Kind != eventsv1.OutcomeKind_OUTCOME_KIND_APPLIED {
			return nil
		}
		if len(o.EventIds) == 0 { // a delete
			return nil
		}
		entries, err := writes.at(at)
		if err != nil {
			c.report("outcome at log offset %d: its events: %v", at, err)
			return nil
		}
		if len(entries) != len(o.EventIds) {
			c.report("outcome at log offset %d has %d events, %d are stored", at, len(o.EventIds), len(entries))
			return nil
		}
		for i, id := range o.EventIds {
			e := new(eventsv1.RecordedEvent)
			if err := proto.Unmarshal(entries[i].event, e); err != nil || e.EventId != id || e.StreamId != o.StreamId || e.Version != o.FirstVersion+int64(i) {
				c.report("outcome at log offset %d: event %q of stream %q is not stored as version %d", at, id, o.StreamId, o.FirstVersion+int64(i))
			}
		}
		return nil
	})
	if before != c.meta.Applied || hash != c.meta.OutcomeHash {
		c.report("the newest outcome is at log offset %d with hash %x, applied are %d with hash %x", before, hash, c.meta.Applied, c.meta.OutcomeHash)
	}
	return errors.Join(err, writes.close())
}

// bodies must be what the indexes by version, id, type, category and tag point to.
func (c *check) bodies() error {
	_, err := c.each("events", prefixBody, func(key, value []byte) error {
		entries, bad := appendEntries(nil, value)
		if bad != nil || len(key) != 8 || len(entries) == 0 {
			c.report("events at %x cannot be taken apart", key)
			return nil //nolint:nilerr // a finding, and the check goes on
		}
		c.bodyWrites++
		offset := int64(binary.BigEndian.Uint64(key))
		named := map[name]struct{}{}
		for i, entry := range entries {
			e := new(eventsv1.RecordedEvent)
			if proto.Unmarshal(entry.event, e) != nil {
				c.report("event %d at log offset %d cannot be decoded", i, offset)
				return nil //nolint:nilerr // a finding, and the check goes on
			}
			if e.LogOffset != offset || int(e.Index) != i || e.Shard != c.shard.id {
				c.report("event %q at log offset %d, index %d says that it is at %d, %d of shard %d", e.EventId, offset, i, e.LogOffset, e.Index, e.Shard)
			}
			if i == 0 {
				if err := c.leads(e, "version", versionKey(nil, e.StreamId, e.Version), appendSpan(nil, span{offset: offset, count: int64(len(entries))})); err != nil {
					return err
				}
				if err := c.leads(e, "category", termKey(nil, prefixCategory, Category(e.StreamId), offset), nil); err != nil {
					return err
				}
			}
			place := core.Place{Stream: e.StreamId, Version: e.Version, Offset: offset}
			if err := c.leads(e, "event id", nameKey(nil, prefixEvent, e.EventId), appendPlace(nil, place)); err != nil {
				return err
			}
			if err := c.leads(e, "type", termKey(nil, prefixType, e.EventType, offset), nil); err != nil {
				return err
			}
			named[name{prefixType, e.EventType}] = struct{}{}
			for _, tag := range e.Tags {
				if err := c.leads(e, "tag", termKey(nil, prefixTag, tag, offset), nil); err != nil {
					return err
				}
				named[name{prefixTag, tag}] = struct{}{}
			}
		}
		c.events += int64(len(entries))
		for n := range named {
			c.named[n.prefix]++
		}
		return nil
	})
	if c.events != c.meta.Events {
		c.report("%d events are stored, %d were appended", c.events, c.meta.Events)
	}
	return err
}

// leads reports an event to which an index does not lead.
func (c *check) leads(e *eventsv1.RecordedEvent, index string, key, want []byte) error {
	same := false
	found, err := get(c.snap, key, func(v []byte) error {
		same = bytes.Equal(v, want)
		return nil
	})
	if err == nil && (!found || !same) {
		c.report("event %q of stream %q, version %d: its index by %s does not lead to it", e.EventId, e.StreamId, e.Version, index)
	}
	return err
}

// streams must have every version from 0 to their head's, once.
func (c *check) streams() error {
	var stream string
	next := int64(0)
	finish := func() error {
		if stream == "" {
			return nil
		}
		h, err := headOf(c.snap, stream)
		if err != nil {
			return err
		}
		if h.Version != next-1 {
			c.report("stream %q has versions up to %d, its head says %d", stream, next-1, h.Version)
		}
		return nil
	}
	n, err := c.each("versions", prefixVersion, func(key, value []byte) error {
		s, bad := readSpan(value)
		if len(key) < 9 || key[len(key)-9] != 0 || bad != nil {
			c.report("version key %x cannot be decoded", key)
			return nil //nolint:nilerr // a finding, and the check goes on
		}
		name, version := string(key[:len(key)-9]), int64(binary.BigEndian.Uint64(key[len(key)-8:]))
		if name != stream {
			if err := finish(); err != nil {
				return err
			}
			stream, next = name, 0
		}
		if version != next {
			c.report("stream %q goes on at version %d, want %d", stream, version, next)
		}
		next = version + s.count
		return nil
	})
	if err := errors.Join(err, finish()); err != nil {
		return err
	}
	if n != c.bodyWrites {
		c.report("%d writes are indexed by version, %d are stored", n, c.bodyWrites)
	}
	_, err = c.each("heads", prefixHead, func(key, value []byte) error {
		h, bad := readHead(value)
		if bad != nil {
			c.report("head of stream %q cannot be decoded: %v", key, bad)
			return nil
		}
		whole := h.FirstVersion == h.Version+1
		if h.FirstVersion < 0 || h.FirstVersion > h.Version+1 || h.State < core.Live || h.State > core.Tombstoned || (h.State == core.Live) == whole {
			c.report("head of stream %q is impossible: %+v", key, h)
		}
		if h.Version >= 0 {
			found, err := c.hasVersions(string(key))
			if err != nil {
				return err
			}
			if !found {
				c.report("stream %q lacks its head's version %d", key, h.Version)
			}
		}
		return nil
	})
	return err
}

// hasVersions tells whether a stream has any; that they end where its head says was seen from them.
func (c *check) hasVersions(stream string) (bool, error) {
	prefix := versionPrefix(nil, stream)
	it, err := c.snap.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return false, err
	}
	found := it.First()
	return found, errors.Join(it.Error(), it.Close())
}

// writes that are remembered must have their outcome.
func (c *check) writes() error {
	_, err := c.each("writes", prefixWrite, func(key, value []byte) error {
		w, bad := readWrite(value)
		if bad != nil {
			c.report("memory of write %q cannot be decoded: %v", key, bad)
			return nil
		}
		if w.Offset < c.meta.SweptBelow {
			c.report("write %q of log offset %d should have been forgotten", key, w.Offset)
		}
		o := new(eventsv1.Outcome)
		readable := false
		found, err := get(c.snap, offsetKey(nil, prefixOutcome, w.Offset), func(v []byte) error {
			readable = proto.Unmarshal(v, o) == nil
			return nil
		})
		if err != nil {
			return err
		}
		if !found || !readable || o.WriteId != string(key) {
			c.report("write %q is remembered with log offset %d, whose outcome is of write %q", key, w.Offset, o.WriteId)
		}
		return nil
	})
	return err
}

// indexes must not have more entries than there are events, types and tags; that they
// have no fewer was seen from the events.
func (c *check) indexes() error {
	var errs []error
	for _, index := range []struct {
		name   string
		prefix byte
		want   int64
	}{
		{"event ids", prefixEvent, c.events},
		{"types", prefixType, c.named[prefixType]},
		{"categories", prefixCategory, c.bodyWrites},
		{"tags", prefixTag, c.named[prefixTag]},
	} {
		n, err := c.each(index.name, index.prefix, func(_, _ []byte) error { return nil })
		if err == nil && n != index.want {
			c.report("the index of %s has %d entries, want %d", index.name, n, index.want)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
