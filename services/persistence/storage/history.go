package storage

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/encoding/protowire"
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

// fieldEvents is the number of HistoricalEventsLoaded.events.
const fieldEvents = protowire.Number(2)

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

func (p *page) splice(raw []byte) {
	if p.encoded == nil {
		p.encoded = make([]byte, 0, min(p.max, (len(raw)+16)*p.limit)+len(raw)+512)
	}
	p.encoded = protowire.AppendTag(p.encoded, fieldEvents, protowire.BytesType)
	p.encoded = protowire.AppendBytes(p.encoded, raw)
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
	return p.versions(from, h.Version, (*pebble.Iterator).First, (*pebble.Iterator).Next, 1)
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
	return p.versions(h.FirstVersion, from, (*pebble.Iterator).Last, (*pebble.Iterator).Prev, -1)
}

// versions reads the versions low to high of the stream, in the direction that
// start and move give.
func (p *page) versions(low, high int64, start, move func(*pebble.Iterator) bool, step int64) error {
	prefix := versionPrefix(nil, p.req.StreamId)
	it, err := p.snap.NewIter(&pebble.IterOptions{
		LowerBound: versionKey(nil, p.req.StreamId, low),
		UpperBound: versionKey(nil, p.req.StreamId, high+1),
	})
	if err != nil {
		return fmt.Errorf("read stream %q: %w", p.req.StreamId, err)
	}
	bodies, err := newBodies(p.snap)
	if err != nil {
		return errors.Join(fmt.Errorf("read stream %q: %w", p.req.StreamId, err), it.Close())
	}
	version := low
	if step < 0 {
		version = high
	}
	for ok := start(it); ok; ok = move(it) {
		if len(it.Key()) != len(prefix)+8 || len(it.Value()) != positionLen {
			err = errMalformed
			break
		}
		var raw []byte
		if raw, err = bodies.at(readPosition(it.Value())); err != nil {
			break
		}
		if p.full(len(raw)) {
			p.answer.HasMore = true
			break
		}
		p.splice(raw)
		version += step
	}
	p.answer.NextVersion = version
	if step < 0 && !p.answer.HasMore {
		p.answer.NextVersion = -1
	}
	if err := errors.Join(err, bodies.close(), it.Close()); err != nil {
		return fmt.Errorf("read stream %q from version %d: %w", p.req.StreamId, p.req.FromVersion, err)
	}
	return nil
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
	bodies, err := newBodies(p.snap)
	if err != nil {
		return fmt.Errorf("read all streams: %w", err)
	}
	found, err := newPostings(p.snap, p.req.Selector, p.budget)
	if err != nil {
		return errors.Join(fmt.Errorf("read all streams: %w", err), bodies.close())
	}
	err = p.matching(from, bodies, found)
	if found != nil {
		err = errors.Join(err, found.close())
	}
	if err := errors.Join(err, bodies.close()); err != nil {
		return fmt.Errorf("read all streams after log offset %d: %w", p.req.AfterOffset, err)
	}
	return nil
}

// matching goes over the candidates: those of the indexes, or every body.
func (p *page) matching(from position, bodies *bodies, candidates postings) error {
	heads := make(map[string]core.Head)
	accept := streamFilter(p.req.Selector)
	for {
		at, ok := from, true
		var err error
		if candidates != nil {
			at, ok, err = candidates.seek(from)
		}
		var raw []byte
		if err == nil && ok {
			raw, at, ok, err = bodies.from(at)
		}
		if errors.Is(err, errSpent) {
			before := candidates.(*intersection).reached.previous()
			p.answer.NextOffset, p.answer.NextIndex = before.offset, before.index
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
		if p.spent() {
			p.answer.HasMore = true
			return nil
		}
		p.keys++
		p.scanned += len(raw)
		stream, version, err := peek(raw)
		if err != nil {
			return fmt.Errorf("event at log offset %d, index %d: %w", at.offset, at.index, err)
		}
		if accept(stream) {
			hidden, err := p.hidden(heads, stream, version)
			if err != nil {
				return err
			}
			if !hidden {
				if p.full(len(raw)) {
					p.answer.HasMore = true
					return nil
				}
				p.splice(raw)
			}
		}
		p.answer.NextOffset, p.answer.NextIndex = at.offset, at.index
		from = at.next()
	}
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
