// Package reads shows how history is read.
package reads

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/exesdb/exesdb/acceptance/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestHistoryPagesAreBounded: by count and by bytes; a client that follows them gets everything once, in order.
func TestHistoryPagesAreBounded(t *testing.T) {
	for _, shards := range []int32{1, 4} {
		t.Run(fmt.Sprintf("%d-shards", shards), func(t *testing.T) {
			s := harness.Up(t, harness.Options{Shards: shards})
			const streams, each = 8, 6
			large := json.RawMessage(`"` + strings.Repeat("x", 500_000) + `"`)
			for n := range streams {
				var events []harness.Event
				for i := range each {
					events = append(events, harness.Event{EventID: fmt.Sprintf("%d-%d", n, i), EventType: "Large", Data: large})
				}
				if _, err := s.REST.Append(t.Context(), harness.Append{Stream: fmt.Sprintf("large-%d", n), Events: events}); err != nil {
					t.Fatal(err)
				}
			}
			a, err := s.REST.Do(t.Context(), "GET", "/v1/events?limit=4096", nil)
			if err != nil || a.Status != 200 {
				t.Fatalf("%d %v", a.Status, err)
			}
			var page harness.Page
			if err := json.Unmarshal(a.Body, &page); err != nil {
				t.Fatal(err)
			}
			if len(a.Body) > 6<<20 || !page.HasMore || len(page.Events) == 0 || len(page.Events) >= streams*each {
				t.Errorf("a page of %d bytes with %d of %d events, has_more %v: want at most about 4 MiB", len(a.Body), len(page.Events), streams*each, page.HasMore)
			}
			for query, want := range map[string]int{"": streams * each, "event_type=Large": streams * each, "stream_prefix=large-3": each, "event_type=None": 0} {
				all, err := s.REST.ReadAll(t.Context(), query)
				if err != nil {
					t.Fatal(err)
				}
				next := map[string]int64{}
				for _, e := range all {
					if e.Version != next[e.StreamID] {
						t.Errorf("%q: stream %s: version %d, want %d", query, e.StreamID, e.Version, next[e.StreamID])
					}
					next[e.StreamID]++
				}
				if len(all) != want {
					t.Errorf("%q: %d events, want %d", query, len(all), want)
				}
			}
			for n := range streams {
				if read, err := s.REST.ReadStream(t.Context(), fmt.Sprintf("large-%d", n)); err != nil || len(read) != each {
					t.Errorf("stream %d: %d events, %v", n, len(read), err)
				}
			}
			// By count: pages of one.
			count, from := 0, int64(0)
			for {
				page, err := s.REST.ReadPage(t.Context(), "large-0", fmt.Sprintf("limit=1&from_version=%d", from))
				if err != nil || len(page.Events) > 1 {
					t.Fatalf("%d events, %v", len(page.Events), err)
				}
				count += len(page.Events)
				if !page.HasMore {
					break
				}
				from = page.NextVersion
			}
			if count != each {
				t.Errorf("%d events in pages of one, want %d", count, each)
			}
		})
	}
}

// TestListStreams: pages of streams in order of their ids, each once, whatever their shards.
func TestListStreams(t *testing.T) {
	s := harness.Up(t, harness.Options{Shards: 4})
	const streams = 60
	for n := range streams {
		if _, err := s.REST.Append(t.Context(), harness.Append{Stream: fmt.Sprintf("list-%03d", n), Events: []harness.Event{{EventType: "T", Data: json.RawMessage("1")}}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{1, 7, 1000} {
		var ids []string
		for token := ""; ; {
			a, err := s.REST.Do(t.Context(), "GET", fmt.Sprintf("/v1/streams?prefix=list-&limit=%d&page_token=%s", limit, token), nil)
			if err != nil || a.Status != 200 {
				t.Fatalf("%d %s %v", a.Status, a.Body, err)
			}
			var page struct {
				Streams []harness.Head `json:"streams"`
				Next    string         `json:"next_page_token"`
			}
			if err := json.Unmarshal(a.Body, &page); err != nil {
				t.Fatal(err)
			}
			if len(page.Streams) > limit {
				t.Errorf("a page of %d, limit %d", len(page.Streams), limit)
			}
			for _, h := range page.Streams {
				ids = append(ids, h.StreamID)
			}
			if page.Next == "" {
				break
			}
			token = page.Next
		}
		for i, id := range ids {
			if id != fmt.Sprintf("list-%03d", i) {
				t.Fatalf("limit %d: the %dth is %s", limit, i, id)
			}
		}
		if len(ids) != streams {
			t.Errorf("limit %d: %d streams, want %d", limit, len(ids), streams)
		}
	}
}
