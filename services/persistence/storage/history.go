package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"github.com/exesdb/exesdb/services/persistence/core"
)

// Bounds of a page.
const (
	defaultPageEvents = 1000
	maxPageEvents     = 10_000
	defaultPageBytes  = 1 << 20
	maxPageBytes      = 4 << 20

	// A page looks at no more than so many keys and bytes, found or not, so that
	// a filter that matches nothing costs no more than one that matches all.
	maxPageKeys    = 50_000
	maxPageScanned = 32 << 20
)

// QueryError says that a question cannot be answered as it was asked.
type QueryError struct{ Reason string }

// Error implements error.
func (e *QueryError) Error() string { return "history query: " + e.Reason }

// page is an answer under way. The events are spliced into it as they are
// stored, without decoding.
type page struct {
	snap    *pebble.Snapshot
	meta    meta
	req     *eventsv1.HistoricalEventsRequested
	answer  *eventsv1.HistoricalEventsLoaded // all but the events
	encoded []byte                           // the events
	count   int
	limit   int
	max     int
	budget  int // of keys
	keys    int // looked at
	scanned int // bytes looked at
}

// Load answers one page of history, as an encoded HistoricalEventsLoaded. It is
// of one moment: complete through its applied_offset. replica is the name that it
// gives itself in the answer. A question that makes no sense is a *QueryError.
func (s *Shard) Load(req *eventsv1.HistoricalEventsRequested, replica string) ([]byte, error) {
	snap := s.db.NewSnapshot()
	p := &page{
		snap: snap,
		req:  req,
		answer: &eventsv1.HistoricalEventsLoaded{
			SubscriptionId: req.SubscriptionId,
			RequestId:      req.RequestId,
			ReplyTo:        req.ReplyTo,
			Replica:        replica,
			Shard:          s.id,
			NextVersion:    req.FromVersion,
			NextOffset:     req.AfterOffset,
			NextIndex:      req.AfterIndex,
			NextStream:     req.AfterStream,
		},
		limit:  bound(int64(req.Limit), defaultPageEvents, maxPageEvents),
		max:    bound(req.MaxBytes, defaultPageBytes, maxPageBytes),
		budget: s.pageKeys,
	}
	err := p.load()
	if err := errors.Join(err, snap.Close()); err != nil {
		return nil, fmt.Errorf("load history of shard %d: %w", s.id, err)
	}
	b, err := proto.MarshalOptions{}.MarshalAppend(p.encoded, p.answer)
	if err != nil {
		return nil, fmt.Errorf("encode history of shard %d: %w", s.id, err)
	}
	return b, nil
}

func bound(n, otherwise, most int64) int {
	if n <= 0 {
		return int(otherwise)
	}
	return int(min(n, most))
}

func (p *page) load() error {
	var err error
	if p.meta, err = loadMeta(p.snap); err != nil {
		return err
	}
	p.answer.AppliedOffset = p.meta.Applied
	switch p.req.Query {
	case eventsv1.HistoricalEventsRequested_QUERY_STREAM:
		return p.stream()
	case eventsv1.HistoricalEventsRequested_QUERY_ALL:
		return p.all()
	case eventsv1.HistoricalEventsRequested_QUERY_STREAMS:
		return p.streams()
	case eventsv1.HistoricalEventsRequested_QUERY_HEAD:
		_, err := p.head()
		return err
	default:
		return &QueryError{Reason: fmt.Sprintf("query %d is not known", p.req.Query)}
	}
}

// full tells whether an event of that size must wait for the next page. The
// first event always has room.
func (p *page) full(size int) bool {
	return p.count > 0 && (p.count >= p.limit || len(p.encoded)+size > p.max)
}

// spent tells whether the page has looked at as much as it may.
func (p *page) spent() bool { return p.keys >= p.budget || p.scanned >= maxPageScanned }

func (p *page) splice(e entry) {
	if p.encoded == nil {
		p.encoded = make([]byte, 0, min(p.max, (len(e.whole)+16)*p.limit)+len(e.whole)+512)
	}
	p.encoded = append(p.encoded, e.whole...)
	p.count++
}

// head fills in the head of the stream that is asked for.
func (p *page) head() (core.Head, error) {
	if p.req.StreamId == "" {
		return core.Head{}, &QueryError{Reason: "stream_id is empty"}
	}
	h, err := headOf(p.snap, p.req.StreamId)
	if err != nil {
		return h, err
	}
	p.answer.Stream = info(p.req.StreamId, h)
	return h, nil
}

func headOf(r pebble.Reader, stream string) (core.Head, error) {
	h := core.NoHead()
	_, err := get(r, nameKey(nil, prefixHead, stream), func(v []byte) (err error) {
		h, err = readHead(v)
		return err
	})
	if err != nil {
		return h, fmt.Errorf("read head of stream %q: %w", stream, err)
	}
	return h, nil
}

func info(stream string, h core.Head) *eventsv1.StreamInfo {
	i := &eventsv1.StreamInfo{
		StreamId: stream, Version: h.Version, FirstVersion: h.FirstVersion,
		Count: h.Version - h.FirstVersion + 1,
	}
	switch h.State {
	case core.Live:
		i.State = eventsv1.StreamState_STREAM_STATE_LIVE
	case core.Deleted:
		i.State = eventsv1.StreamState_STREAM_STATE_DELETED
	case core.Tombstoned:
		i.State = eventsv1.StreamState_STREAM_STATE_TOMBSTONED
	}
	return i
}

// stream reads one stream. Versions before the newest delete are hidden.
func (p *page) stream() error {
	h, err := p.head()
	if err != nil {
		return err
	}
	if p.req.Backward {
		return p.backward(h)
	}
	from := max(p.req.FromVersion, h.FirstVersion, 0)
	p.answer.NextVersion = from
	if h.State != core.Live || from > h.Version {
		return nil
	}
	return p.versions(from, h.Version, 1)
}

// backward reads from a version (negative: the newest) down.
func (p *page) backward(h core.Head) error {
	from := p.req.FromVersion
	if from < 0 || from > h.Version {
		from = h.Version
	}
	p.answer.NextVersion = -1
	if h.State != core.Live || from < h.FirstVersion {
		return nil
	}
	return p.versions(h.FirstVersion, from, -1)
}

// versions reads the versions low to high of the stream, up (step 1) or down (step -1).
func (p *page) versions(low, high, step int64) error {
	prefix := versionPrefix(nil, p.req.StreamId)
	it, err := p.snap.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: versionKey(nil, p.req.StreamId, high+1)})
	if err != nil {
		return fmt.Errorf("read stream %q: %w", p.req.StreamId, err)
	}
	writes, err := newWrites(p.snap)
	if err != nil {
		return errors.Join(fmt.Errorf("read stream %q: %w", p.req.StreamId, err), it.Close())
	}
	next, move := high, (*pebble.Iterator).Prev
	if step > 0 {
		next, move = low, (*pebble.Iterator).Next
	}
	// The write that gave the first version that is wanted begins there or before it.
	for ok := it.SeekLT(versionKey(nil, p.req.StreamId, next+1)); ok && low <= next && next <= high && !p.answer.HasMore; ok = move(it) {
		if next, err = p.run(it, writes, len(prefix), next, low, high, step); err != nil {
			break
		}
	}
	p.answer.NextVersion = next
	if step < 0 && !p.answer.HasMore {
		p.answer.NextVersion = -1
	}
	if err := errors.Join(err, writes.close(), it.Close()); err != nil {
		return fmt.Errorf("read stream %q from version %d: %w", p.req.StreamId, p.req.FromVersion, err)
	}
	return nil
}

// run takes the versions from next on of the write that the iterator stands at, and returns the version after them.
func (p *page) run(it *pebble.Iterator, writes *writes, prefix int, next, low, high, step int64) (int64, error) {
	if len(it.Key()) != prefix+8 {
		return next, errMalformed
	}
	first := int64(binary.BigEndian.Uint64(it.Key()[prefix:]))
	s, err := readSpan(it.Value())
	if err != nil {
		return next, err
	}
	entries, err := writes.at(s.offset)
	if err != nil {
		return next, err
	}
	if last := first + int64(len(entries)) - 1; int64(len(entries)) != s.count || next < first || next > last {
		return next, fmt.Errorf("version %d is not in the write at log offset %d, which has %d to %d", next, s.offset, first, last)
	}
	for i := next - first; i >= 0 && i < int64(len(entries)) && low <= next && next <= high; i += step {
		if p.full(len(entries[i].event)) {
			p.answer.HasMore = true
			return next, nil
		}
		p.splice(entries[i])
		next += step
	}
	return next, nil
}

// streams lists live streams by id.
func (p *page) streams() error {
	prefix := p.req.Selector.GetStreamPrefix()
	if prefix == "" {
		prefix, _ = literal(p.req.StreamPattern)
	}
	lower := nameKey(nil, prefixHead, prefix)
	upper := after(lower)
	if p.req.AfterStream != "" {
		if next := append(nameKey(nil, prefixHead, p.req.AfterStream), 0); string(next) > string(lower) {
			lower = next
		}
	}
	if string(lower) >= string(upper) {
		return nil
	}
	it, err := p.snap.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if len(p.answer.Streams) >= p.limit || p.spent() {
			p.answer.HasMore = true
			break
		}
		p.keys++
		var h core.Head
		if h, err = readHead(it.Value()); err != nil {
			break
		}
		p.answer.NextStream = string(it.Key()[1:])
		if h.State == core.Live {
			p.answer.Streams = append(p.answer.Streams, info(p.answer.NextStream, h))
		}
	}
	if err := errors.Join(err, it.Close()); err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	return nil
}

// literal is what every id that a glob pattern matches begins with, and whether
// the pattern is nothing but that.
func literal(pattern string) (prefix string, whole bool) {
	i := strings.IndexAny(pattern, `*?[{\>`)
	if i < 0 {
		return pattern, true
	}
	return pattern[:i], false
}

// all reads the events of all streams in log order.
func (p *page) all() error {
	if p.req.Backward {
		return &QueryError{Reason: "all streams are read forward only"}
	}
	from := position{}
	switch {
	case p.req.AfterOffset >= 0 && p.req.AfterIndex < 0:
		from = position{offset: p.req.AfterOffset}
	case p.req.AfterOffset >= 0:
		from = position{offset: p.req.AfterOffset, index: p.req.AfterIndex}.next()
	}
	writes, err := newWrites(p.snap)
	if err != nil {
		return fmt.Errorf("read all streams: %w", err)
	}
	found, err := newPostings(p.snap, p.req.Selector, p.budget)
	if err != nil {
		return errors.Join(fmt.Errorf("read all streams: %w", err), writes.close())
	}
	err = p.matching(from, writes, found)
	if found != nil {
		err = errors.Join(err, found.close())
	}
	if err := errors.Join(err, writes.close()); err != nil {
		return fmt.Errorf("read all streams after log offset %d: %w", p.req.AfterOffset, err)
	}
	return nil
}

// matching goes over the candidates: the writes that the indexes give, or all.
func (p *page) matching(from position, writes *writes, candidates postings) error {
	heads := make(map[string]core.Head)
	ofStream, ofEvent := streamFilter(p.req.Selector), eventFilter(p.req.Selector)
	for {
		at, ok := from.offset, true
		var err error
		if candidates != nil {
			at, ok, err = candidates.seek(at)
		}
		var entries []entry
		if err == nil && ok {
			entries, at, ok, err = writes.from(at)
		}
		if errors.Is(err, errSpent) {
			p.answer.NextOffset, p.answer.NextIndex = candidates.(*intersection).reached-1, math.MaxInt32
			p.answer.HasMore = true
			return nil
		}
		if err != nil {
			return err
		}
		if !ok { // nothing is left: the page is complete through what is applied
			p.answer.NextOffset, p.answer.NextIndex = max(p.meta.Applied, p.req.AfterOffset), math.MaxInt32
			if p.meta.Applied < p.req.AfterOffset {
				p.answer.NextIndex = p.req.AfterIndex
			}
			return nil
		}
		visible, err := p.visible(heads, entries, ofStream)
		if err != nil {
			return fmt.Errorf("write at log offset %d: %w", at, err)
		}
		for i, e := range entries {
			here := position{offset: at, index: int32(i)}
			if here.before(from) {
				continue
			}
			if p.spent() {
				p.answer.HasMore = true
				return nil
			}
			p.keys++
			p.scanned += len(e.event)
			matches := visible
			if visible && ofEvent != nil {
				if matches, err = ofEvent(e.event); err != nil {
					return fmt.Errorf("event at log offset %d, index %d: %w", at, i, err)
				}
			}
			if matches {
				if p.full(len(e.event)) {
					p.answer.HasMore = true
					return nil
				}
				p.splice(e)
			}
			p.answer.NextOffset, p.answer.NextIndex = here.offset, here.index
		}
		from = position{offset: at + 1}
	}
}

// visible tells whether a write is of a stream that is asked for, and not hidden by a delete: a delete covers
// whole writes.
func (p *page) visible(heads map[string]core.Head, entries []entry, ofStream func([]byte) bool) (bool, error) {
	if len(entries) == 0 {
		return false, errMalformed
	}
	stream, version, err := peek(entries[0].event)
	if err != nil || !ofStream(stream) {
		return false, err
	}
	hidden, err := p.hidden(heads, stream, version)
	return !hidden, err
}

// hidden tells whether a delete covers the event.
func (p *page) hidden(heads map[string]core.Head, stream []byte, version int64) (bool, error) {
	if p.meta.Deletes == 0 {
		return false, nil
	}
	h, known := heads[string(stream)]
	if !known {
		var err error
		if h, err = headOf(p.snap, string(stream)); err != nil {
			return false, err
		}
		heads[string(stream)] = h
	}
	return version < h.FirstVersion, nil
}

// streamFilter is the part of a selector that looks at the stream's id. Of a
// glob pattern it takes the literal beginning: the page may hold more than
// matches, never less.
func streamFilter(sel *eventsv1.Selector) func([]byte) bool {
	prefix := sel.GetStreamPrefix()
	pattern, whole := literal(sel.GetStreamPattern())
	whole = whole && pattern != ""
	if prefix == "" && pattern == "" {
		return func([]byte) bool { return true }
	}
	return func(stream []byte) bool {
		s := string(stream)
		if !strings.HasPrefix(s, prefix) || !strings.HasPrefix(s, pattern) {
			return false
		}
		return !whole || s == pattern
	}
}

// eventFilter is the part of a selector that looks at an event's type and tags; nil when it accepts all.
func eventFilter(sel *eventsv1.Selector) func(event []byte) (bool, error) {
	if len(sel.GetEventTypes())+len(sel.GetTagsAny())+len(sel.GetTagsAll()) == 0 {
		return nil
	}
	var tags []string
	return func(event []byte) (bool, error) {
		kind, found, err := labels(event, tags[:0])
		if err != nil {
			return false, err
		}
		tags = found
		has := func(tag string) bool { return slices.Contains(tags, tag) }
		if len(sel.EventTypes) > 0 && !slices.Contains(sel.EventTypes, kind) ||
			len(sel.TagsAny) > 0 && !slices.ContainsFunc(sel.TagsAny, has) {
			return false, nil
		}
		for _, tag := range sel.TagsAll {
			if !has(tag) {
				return false, nil
			}
		}
		return true, nil
	}
}
