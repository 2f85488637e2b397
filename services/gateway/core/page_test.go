package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/exesdb/exesdb/shared/position"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// shardPage answers as a replica does, with a scan that may end early.
func shardPage(log []*eventsv1.RecordedEvent, shard int32, at position.Position, limit, scan int) *eventsv1.HistoricalEventsLoaded {
	page := &eventsv1.HistoricalEventsLoaded{Shard: shard, AppliedOffset: -1, NextOffset: at.Offset, NextIndex: at.Index}
	if len(log) > 0 {
		page.AppliedOffset = log[len(log)-1].GetLogOffset()
	}
	for _, e := range log {
		if PositionOf(e).Compare(at) <= 0 {
			continue
		}
		if len(page.Events) == limit || scan == 0 {
			page.HasMore = true
			return page
		}
		scan--
		if e.GetEventType() == "wanted" {
			page.Events = append(page.Events, e)
		}
		page.NextOffset, page.NextIndex = e.GetLogOffset(), e.GetIndex()
	}
	return page
}

// Paging through several shards gives every event once, in the order of each
// shard, and in the order of time as far as it is known.
func TestMergeEventsPagesThroughEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := rapid.Int32Range(1, 4).Draw(t, "shards")
		logs := make([][]*eventsv1.RecordedEvent, shards)
		total := 0
		for s := range logs {
			offset, at := int64(-1), int64(0)
			for range rapid.IntRange(0, 12).Draw(t, "writes") {
				offset += rapid.Int64Range(1, 3).Draw(t, "gap")
				at += rapid.Int64Range(0, 3).Draw(t, "ms")
				for i := range rapid.Int32Range(1, 3).Draw(t, "events") {
					kind := rapid.SampledFrom([]string{"wanted", "wanted", "other"}).Draw(t, "type")
					if kind == "wanted" {
						total++
					}
					logs[s] = append(logs[s], &eventsv1.RecordedEvent{Shard: int32(s), LogOffset: offset, Index: i, CreatedAtMs: at, EventType: kind, Data: []byte("12345")})
				}
			}
		}
		limit := rapid.IntRange(1, 7).Draw(t, "limit")
		bytes := rapid.Int64Range(1, 30).Draw(t, "bytes")
		var cursor position.Cursor
		seen := map[position.Position]bool{}
		last := make([]position.Position, shards)
		for s := range last {
			last[s] = position.Position{Shard: int32(s), Offset: -1, Index: -1}
		}
		for round := 0; ; round++ {
			if round > 500 {
				t.Fatal("paging does not end")
			}
			pages := make([]*eventsv1.HistoricalEventsLoaded, shards)
			for s := range pages {
				pages[s] = shardPage(logs[s], int32(s), cursor.At(int32(s)), limit, rapid.IntRange(1, 5).Draw(t, "scan"))
			}
			events, next, more := MergeEvents(cursor, pages, limit, bytes)
			if len(events) > limit {
				t.Fatalf("%d events, limit %d", len(events), limit)
			}
			for i, e := range events {
				p := PositionOf(e.Event)
				if seen[p] || p.Compare(last[p.Shard]) <= 0 {
					t.Fatalf("%v comes twice or out of order", p)
				}
				seen[p], last[p.Shard] = true, p
				if i > 0 && compareEvents(events[i-1].Event, e.Event) > 0 {
					t.Fatalf("page not ordered by time at %v", p)
				}
				if e.After.At(p.Shard) != p {
					t.Fatalf("the cursor after %v is at %v", p, e.After.At(p.Shard))
				}
			}
			if rapid.Bool().Draw(t, "resume from an event") && len(events) > 0 {
				k := rapid.IntRange(0, len(events)-1).Draw(t, "which")
				for _, e := range events[k+1:] {
					p := PositionOf(e.Event)
					delete(seen, p)
				}
				for s := range last {
					last[s] = events[k].After.At(int32(s))
				}
				cursor = events[k].After
				continue
			}
			cursor = next
			if !more {
				break
			}
		}
		if len(seen) != total {
			t.Fatalf("%d of %d events were seen", len(seen), total)
		}
		for s := range logs {
			if n := len(logs[s]); n > 0 && cursor.At(int32(s)).Compare(PositionOf(logs[s][n-1])) < 0 {
				t.Fatalf("the cursor is before the end of shard %d", s)
			}
		}
	})
}

func TestMergeStreamsListsEverythingInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := rapid.IntRange(1, 4).Draw(t, "shards")
		byShard := make([][]*eventsv1.StreamInfo, shards)
		var want []string
		for i := range rapid.IntRange(0, 40).Draw(t, "streams") {
			info := &eventsv1.StreamInfo{StreamId: fmt.Sprintf("s%02d", i), State: rapid.SampledFrom([]eventsv1.StreamState{
				eventsv1.StreamState_STREAM_STATE_LIVE, eventsv1.StreamState_STREAM_STATE_LIVE, eventsv1.StreamState_STREAM_STATE_DELETED, eventsv1.StreamState_STREAM_STATE_TOMBSTONED,
			}).Draw(t, "state")}
			s := rapid.IntRange(0, shards-1).Draw(t, "shard")
			byShard[s] = append(byShard[s], info)
			if info.GetState() == eventsv1.StreamState_STREAM_STATE_LIVE {
				want = append(want, info.GetStreamId())
			}
		}
		limit := rapid.IntRange(1, 7).Draw(t, "limit")
		var got []string
		after := ""
		for round := 0; ; round++ {
			if round > 200 {
				t.Fatal("listing does not end")
			}
			pages := make([]*eventsv1.HistoricalEventsLoaded, shards)
			for s := range pages {
				pages[s] = &eventsv1.HistoricalEventsLoaded{NextStream: after}
				for _, info := range byShard[s] {
					if info.GetStreamId() <= after {
						continue
					}
					if len(pages[s].Streams) == limit {
						pages[s].HasMore = true
						break
					}
					pages[s].Streams = append(pages[s].Streams, info)
					pages[s].NextStream = info.GetStreamId()
				}
			}
			streams, next := MergeStreams(pages, limit)
			if len(streams) > limit {
				t.Fatalf("%d streams, limit %d", len(streams), limit)
			}
			for _, s := range streams {
				got = append(got, s.GetStreamId())
			}
			token, err := ParsePageToken("list", PageToken(next))
			if err != nil || token != next {
				t.Fatalf("the token of %q is read as %q, %v", next, token, err)
			}
			if next == "" {
				break
			}
			after = next
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestRequestsForPagesAreChecked(t *testing.T) {
	for limit, want := range map[int32]int32{0: DefaultPage, 1: 1, MaxPage: MaxPage, -1: 0, MaxPage + 1: 0} {
		if got, err := PageLimit("read", limit); got != want || (err != nil) != (want == 0) {
			t.Errorf("PageLimit(%d) = %d, %v", limit, got, err)
		}
	}
	if _, err := CursorIn("read", "from_position", position.Position{Shard: 3}.String(), 3); err == nil || !strings.Contains(err.Error(), "another store") {
		t.Errorf("a cursor of another store: %v", err)
	}
	if _, err := ParsePageToken("list", "!"); err == nil {
		t.Error("a bad page token was taken")
	}
	if err := Filter("read", []string{""}, nil); err == nil {
		t.Error("an empty event type was taken")
	}
	if err := Filter("read", nil, make([]string, MaxFilterTerms+1)); err == nil {
		t.Error("too many tags were taken")
	}
	e := &eventsv1.RecordedEvent{EventType: "a", Tags: []string{"x", "y"}}
	for _, c := range []struct {
		types, tags []string
		want        bool
	}{{nil, nil, true}, {[]string{"b", "a"}, nil, true}, {[]string{"b"}, nil, false}, {nil, []string{"x", "y"}, true}, {nil, []string{"x", "z"}, false}} {
		if Selects(e, c.types, c.tags) != c.want {
			t.Errorf("Selects(%v, %v) = %v", c.types, c.tags, !c.want)
		}
	}
}
