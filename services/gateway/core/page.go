package core

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/exesdb/exesdb/shared/position"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// PageLimit is the number of entries of a page that a client asked for with limit; 0 is the default.
func PageLimit(attempt string, limit int32) (int32, error) {
	if limit == 0 {
		return DefaultPage, nil
	}
	if limit < 0 || limit > MaxPage {
		return 0, Malformed("%s: limit %d: want 1 to %d", attempt, limit, MaxPage)
	}
	return limit, nil
}

// CursorIn reads a client's position in a store with that many shards; empty is the start.
func CursorIn(attempt, field, token string, shards int32) (position.Cursor, error) {
	if token == "" {
		return position.Cursor{}, nil
	}
	c, err := position.ParseCursor(token)
	if err != nil {
		return c, Malformed("%s: %s: %v", attempt, field, err)
	}
	if c.Highest() >= shards {
		return c, Malformed("%s: %s: it names shard %d, and the store has %d: it comes from another store", attempt, field, c.Highest(), shards)
	}
	return c, nil
}

// Placed is an event with the cursor that goes on after it.
type Placed struct {
	Event *eventsv1.RecordedEvent
	After position.Cursor
}

// PositionOf is the place of an event.
func PositionOf(e *eventsv1.RecordedEvent) position.Position {
	return position.Position{Shard: e.GetShard(), Offset: e.GetLogOffset(), Index: e.GetIndex()}
}

// MergeEvents makes one page, of at most limit events and about maxBytes, of one
// page of each shard, ordered by (created_at, shard, place). It goes on only while
// it knows which event comes next, so a shard's page that ends early ends the
// merged page too. next is where to read on, which moves even when nothing
// matched; more tells whether there may be more.
func MergeEvents(from position.Cursor, pages []*eventsv1.HistoricalEventsLoaded, limit int, maxBytes int64) (events []Placed, next position.Cursor, more bool) {
	next = from
	at := make([]int, len(pages))
	var size int64
	for {
		best, ended := -1, false
		for i, p := range pages {
			if at[i] == len(p.GetEvents()) {
				ended = ended || p.GetHasMore()
				continue
			}
			if best < 0 || compareEvents(p.GetEvents()[at[i]], pages[best].GetEvents()[at[best]]) < 0 {
				best = i
			}
		}
		if best < 0 || ended || len(events) == limit {
			break
		}
		e := pages[best].GetEvents()[at[best]]
		size += int64(len(e.GetData()) + len(e.GetMetadata()))
		if size > maxBytes && len(events) > 0 {
			break
		}
		at[best]++
		next = next.With(PositionOf(e))
		events = append(events, Placed{e, next})
	}
	for i, p := range pages {
		if at[i] < len(p.GetEvents()) {
			more = true
			continue
		}
		end := position.End(p.GetShard(), p.GetAppliedOffset())
		if p.GetHasMore() {
			more = true
			end = position.Position{Shard: p.GetShard(), Offset: p.GetNextOffset(), Index: p.GetNextIndex()}
			if len(p.GetEvents()) > 0 {
				continue
			}
		}
		if end.Compare(next.At(p.GetShard())) > 0 {
			next = next.With(end)
		}
	}
	return events, next, more
}

func compareEvents(a, b *eventsv1.RecordedEvent) int {
	return cmp.Or(cmp.Compare(a.GetCreatedAtMs(), b.GetCreatedAtMs()), PositionOf(a).Compare(PositionOf(b)))
}

// MergeStreams makes one page, of at most limit streams by id, of one page of
// each shard. after is the id to go on after; empty when there are no more.
// Streams that were deleted are not listed.
func MergeStreams(pages []*eventsv1.HistoricalEventsLoaded, limit int) (streams []*eventsv1.StreamInfo, after string) {
	horizon, bounded := "", false // what is known of every shard ends here
	for _, p := range pages {
		if !p.GetHasMore() {
			continue
		}
		end := p.GetNextStream()
		if n := len(p.GetStreams()); end == "" && n > 0 {
			end = p.GetStreams()[n-1].GetStreamId()
		}
		if !bounded || end < horizon {
			horizon, bounded = end, true
		}
	}
	var all []*eventsv1.StreamInfo
	for _, p := range pages {
		for _, s := range p.GetStreams() {
			if bounded && s.GetStreamId() > horizon || s.GetState() == eventsv1.StreamState_STREAM_STATE_DELETED || s.GetState() == eventsv1.StreamState_STREAM_STATE_TOMBSTONED {
				continue
			}
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *eventsv1.StreamInfo) int { return cmp.Compare(a.GetStreamId(), b.GetStreamId()) })
	if len(all) > limit {
		return all[:limit], all[limit-1].GetStreamId()
	}
	return all, horizon
}

// Live says whether a stream can be read: nil, or the problem.
func Live(attempt, stream string, info *eventsv1.StreamInfo) error {
	switch {
	case info.GetState() == eventsv1.StreamState_STREAM_STATE_TOMBSTONED:
		return Tombstoned(attempt, stream)
	case info == nil, info.GetVersion() < 0, info.GetState() == eventsv1.StreamState_STREAM_STATE_DELETED:
		return NotFound(attempt, stream)
	default:
		return nil
	}
}

// Filter checks the event types and tags of a read.
func Filter(attempt string, types, tags []string) error {
	for field, terms := range map[string][]string{"event_type": types, "tag": tags} {
		if len(terms) > MaxFilterTerms {
			return Malformed("%s: %d values of %s: want at most %d", attempt, len(terms), field, MaxFilterTerms)
		}
		for _, term := range terms {
			if err := name(field, term, MaxTag); err != nil {
				return Malformed("%s: %v", attempt, err)
			}
		}
	}
	return nil
}

// Selects tells whether the event has one of the types and all of the tags; none are no condition.
func Selects(e *eventsv1.RecordedEvent, types, tags []string) bool {
	if len(types) > 0 && !slices.Contains(types, e.GetEventType()) {
		return false
	}
	for _, tag := range tags {
		if !slices.Contains(e.GetTags(), tag) {
			return false
		}
	}
	return true
}

// StreamAttempt says in errors what was attempted.
func StreamAttempt(verb, stream string) string {
	return fmt.Sprintf("%s stream %s", verb, Quote(stream))
}
