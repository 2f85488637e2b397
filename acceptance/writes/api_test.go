package writes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/exesdb/exesdb/acceptance/harness"
)

// TestAPI runs on one system: each case has streams of its own.
func TestAPI(t *testing.T) {
	s := harness.Up(t, harness.Options{})
	for _, c := range []struct {
		name string
		test func(*testing.T, *harness.Running)
	}{
		{"AppendConflictRead", appendConflictRead},
		{"ExpectedVersions", expectedVersions},
		{"ExpectedVersionInHeaders", expectedVersionInHeaders},
		{"Idempotency", idempotency},
		{"IdempotentRejection", idempotentRejection},
		{"EventIDs", eventIDs},
		{"AtomicBatch", atomicBatch},
		{"SoftDelete", softDelete},
		{"Tombstone", tombstone},
		{"DataByteForByte", dataByteForByte},
		{"ReadPages", readPages},
		{"FilterByTypeAndTag", filters},
		{"StreamIDs", streamIDs},
		{"Limits", limits},
		{"BadInput", badInput},
		{"NoSuchPath", noSuchPath},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, s) })
	}
	s.StillUp()
}

func appendConflictRead(t *testing.T, s *harness.Running) {
	for name, store := range map[string]harness.Store{"rest": s.REST, "grpc": s.GRPC} {
		stream := "acr-" + name
		first := mustAppend(t, store, stream, harness.NoStream, "", events(2)...)
		if first.FirstVersion != 0 || first.NewVersion != 1 || first.StreamID != stream || len(first.EventIDs) != 2 || first.WriteID == "" || first.Position == "" {
			t.Errorf("%s: %+v", name, first)
		}
		expected := int64(0)
		_, err := store.Append(t.Context(), harness.Append{Stream: stream, Expected: &expected, Events: events(1)})
		p, ok := err.(*harness.Problem) //nolint:errorlint // the client returns it unwrapped
		if !ok || p.Status != http.StatusPreconditionFailed || p.ActualVersion == nil || *p.ActualVersion != 1 || p.ExpectedVersion == nil || *p.ExpectedVersion != 0 || !strings.HasSuffix(p.Type, "wrong-expected-version") {
			t.Errorf("%s: conflict: %v (%+v)", name, err, p)
		}
		second := mustAppend(t, store, stream, 1, "", events(1)...)
		if second.FirstVersion != 2 || second.NewVersion != 2 {
			t.Errorf("%s: %+v", name, second)
		}
		head, err := store.Head(t.Context(), stream)
		if err != nil || head.Version != 2 || head.Count != 3 {
			t.Errorf("%s: head %+v, %v", name, head, err)
		}
		read, err := s.REST.ReadStream(t.Context(), stream)
		if err != nil || len(read) != 3 {
			t.Fatalf("%s: read %d events, %v", name, len(read), err)
		}
		for i, e := range read {
			want := slices.Concat(first.EventIDs, second.EventIDs)[i]
			if e.Version != int64(i) || e.EventID != want || e.StreamID != stream || e.EventType != "Counted" || e.CreatedAtMs == 0 || e.Position == "" {
				t.Errorf("%s: event %d: %+v", name, i, e)
			}
		}
	}
	a, err := s.REST.Do(t.Context(), http.MethodGet, "/v1/streams/acr-rest", nil)
	if err != nil || a.Header.Get("ETag") != `"2"` {
		t.Errorf("ETag is %q, want the version: %v", a.Header.Get("ETag"), err)
	}
	if a, err = s.REST.Do(t.Context(), http.MethodHead, "/v1/streams/acr-rest", nil); err != nil || a.Status != 200 || a.Header.Get("ETag") != `"2"` {
		t.Errorf("HEAD: %d, ETag %q, %v", a.Status, a.Header.Get("ETag"), err)
	}
	if a, err = s.REST.Do(t.Context(), http.MethodGet, "/v1/streams/acr-none/events", nil); err != nil || a.Status != 404 || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("read of no stream: %d %s %v", a.Status, a.Header.Get("Content-Type"), err)
	}
}

func expectedVersions(t *testing.T, s *harness.Running) {
	exists, none := "ev-exists", "ev-none-%d"
	mustAppend(t, s.REST, exists, harness.Any, "", events(3)...) // at 2
	n := 0
	for _, c := range []struct {
		expected         int64
		onNone, onExists bool
	}{
		{harness.Any, true, true},
		{harness.NoStream, true, false},
		{harness.StreamExists, false, true},
		{0, false, false},
		{1 << 62, false, false},
	} {
		for _, there := range []bool{false, true} {
			n++
			stream, want := fmt.Sprintf(none, n), c.onNone
			if there {
				stream, want = exists, c.onExists
			}
			before, err := s.REST.Head(t.Context(), stream)
			if err != nil {
				t.Fatal(err)
			}
			a, err := s.REST.Append(t.Context(), harness.Append{Stream: stream, Expected: &c.expected, Events: events(1)})
			switch {
			case want && (err != nil || a.FirstVersion != before.Version+1):
				t.Errorf("expected %d, stream at %d: %+v %v", c.expected, before.Version, a, err)
			case !want && harness.Status(err) != http.StatusPreconditionFailed:
				t.Errorf("expected %d, stream at %d: %+v %v, want 412", c.expected, before.Version, a, err)
			case !want:
				p := err.(*harness.Problem) //nolint:errorlint,forcetypeassert // Status says so
				if p.ActualVersion == nil || *p.ActualVersion != before.Version {
					t.Errorf("expected %d: actual_version %v, want %d", c.expected, p.ActualVersion, before.Version)
				}
			}
		}
	}
	// Left out is any.
	if _, err := s.REST.Append(t.Context(), harness.Append{Stream: exists, Events: events(1)}); err != nil {
		t.Error(err)
	}
}

func expectedVersionInHeaders(t *testing.T, s *harness.Running) {
	body := []byte(`{"events":[{"event_type":"T","data":1}]}`)
	for _, c := range []struct {
		header, value string
		want          int
	}{
		{"If-None-Match", "*", 200},
		{"If-None-Match", "*", 412},
		{"If-Match", `"0"`, 200},
		{"If-Match", `"0"`, 412},
		{"If-Match", `"x"`, 400},
	} {
		a, err := s.REST.Do(t.Context(), http.MethodPost, "/v1/streams/in-headers/events", body, c.header, c.value)
		if err != nil || a.Status/100 != c.want/100 || c.want/100 != 2 && a.Status != c.want {
			t.Errorf("%s: %s: %d %s %v, want %d", c.header, c.value, a.Status, a.Body, err, c.want)
		}
	}
}

func idempotency(t *testing.T, s *harness.Running) {
	for name, store := range map[string]harness.Store{"rest": s.REST, "grpc": s.GRPC} {
		stream := "idem-" + name
		first := mustAppend(t, store, stream, harness.NoStream, "k1", events(2)...)
		mustAppend(t, store, stream, 1, "k2", events(1)...)
		again := mustAppend(t, store, stream, harness.NoStream, "k1", events(2)...)
		if fmt.Sprint(first) != fmt.Sprint(again) {
			t.Errorf("%s: the same key and body: %+v, then %+v", name, first, again)
		}
		expected := harness.NoStream
		_, err := store.Append(t.Context(), harness.Append{Stream: stream, Expected: &expected, Key: "k1", Events: events(3)})
		if harness.Status(err) != http.StatusUnprocessableEntity {
			t.Errorf("%s: the same key with another body: %v, want 422", name, err)
		}
		expected = harness.Any
		if _, err = store.Append(t.Context(), harness.Append{Stream: stream, Expected: &expected, Key: "k1", Events: events(2)}); harness.Status(err) != http.StatusUnprocessableEntity {
			t.Errorf("%s: the same key with another expected version: %v, want 422", name, err)
		}
		// The key is the stream's own.
		mustAppend(t, store, stream+"-other", harness.NoStream, "k1", events(2)...)
		if head, err := store.Head(t.Context(), stream); err != nil || head.Version != 2 {
			t.Errorf("%s: head %+v %v, want version 2", name, head, err)
		}
	}
}

func idempotentRejection(t *testing.T, s *harness.Running) {
	mustAppend(t, s.REST, "idem-rejected", harness.NoStream, "", events(1)...)
	expected := int64(5)
	request := harness.Append{Stream: "idem-rejected", Expected: &expected, Key: "late", Events: events(1)}
	_, first := s.REST.Append(t.Context(), request)
	mustAppend(t, s.REST, "idem-rejected", 0, "", events(5)...) // now at 5
	_, again := s.REST.Append(t.Context(), request)
	if harness.Status(first) != 412 || fmt.Sprint(first) != fmt.Sprint(again) {
		t.Errorf("a rejection is an outcome too: %v, then %v", first, again)
	}
}

func eventIDs(t *testing.T, s *harness.Running) {
	withIDs := func(ids ...string) []harness.Event {
		out := events(len(ids))
		for i, id := range ids {
			out[i].EventID = id
		}
		return out
	}
	first := mustAppend(t, s.REST, "ids", harness.NoStream, "", withIDs("ids-a", "ids-b")...)
	if !slices.Equal(first.EventIDs, []string{"ids-a", "ids-b"}) {
		t.Errorf("event ids %v", first.EventIDs)
	}
	// The same events at the same place are a success, also under another key.
	again := mustAppend(t, s.REST, "ids", harness.NoStream, "another key", withIDs("ids-a", "ids-b")...)
	if again.FirstVersion != 0 || again.NewVersion != 1 {
		t.Errorf("the same events again: %+v", again)
	}
	for name, request := range map[string]harness.Append{
		"an id that is in another stream": {Stream: "ids-2", Events: withIDs("ids-a")},
		"an id with a new one":            {Stream: "ids", Events: withIDs("ids-b", "ids-c")},
		"the ids in another order":        {Stream: "ids", Events: withIDs("ids-b", "ids-a")},
	} {
		if _, err := s.REST.Append(t.Context(), request); harness.Status(err) != http.StatusUnprocessableEntity {
			t.Errorf("%s: %v, want 422", name, err)
		}
	}
	if _, err := s.REST.Append(t.Context(), harness.Append{Stream: "ids", Events: withIDs("ids-x", "ids-x")}); harness.Status(err) != http.StatusBadRequest {
		t.Errorf("an id twice in one write: %v, want 400", err)
	}
	if head, err := s.REST.Head(t.Context(), "ids"); err != nil || head.Version != 1 {
		t.Errorf("head %+v %v", head, err)
	}
}

func atomicBatch(t *testing.T, s *harness.Running) {
	mustAppend(t, s.REST, "batch", harness.NoStream, "", events(1000)...)
	expected := int64(7)
	if _, err := s.REST.Append(t.Context(), harness.Append{Stream: "batch", Expected: &expected, Events: events(1000)}); harness.Status(err) != 412 {
		t.Errorf("%v, want 412", err)
	}
	// One bad event refuses all.
	bad := events(10)
	bad[9].EventType = ""
	if _, err := s.REST.Append(t.Context(), harness.Append{Stream: "batch", Events: bad}); harness.Status(err) != 400 {
		t.Errorf("%v, want 400", err)
	}
	read, err := s.REST.ReadStream(t.Context(), "batch")
	if err != nil || len(read) != 1000 {
		t.Fatalf("%d events, %v", len(read), err)
	}
	for i, e := range read {
		if string(e.Data) != fmt.Sprintf(`{"i":%d}`, i) || e.CreatedAtMs != read[0].CreatedAtMs {
			t.Fatalf("event %d: %+v", i, e)
		}
	}
}

func softDelete(t *testing.T, s *harness.Running) {
	ctx := t.Context()
	mustAppend(t, s.REST, "soft", harness.NoStream, "", events(3)...)
	wrong := int64(1)
	if err := s.REST.Delete(ctx, "soft", "soft", &wrong, ""); harness.Status(err) != 412 {
		t.Errorf("delete with a wrong version: %v, want 412", err)
	}
	for range 2 { // the second is a retry
		if err := s.REST.Delete(ctx, "soft", "soft", nil, "delete-soft"); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
	if _, err := s.REST.ReadPage(ctx, "soft", ""); harness.Status(err) != 404 {
		t.Errorf("read after a soft delete: %v, want 404", err)
	}
	if err := s.REST.Delete(ctx, "soft", "soft", nil, ""); harness.Status(err) != 404 {
		t.Errorf("delete of a deleted stream: %v, want 404", err)
	}
	if all, err := s.REST.ReadAll(ctx, "stream_prefix=soft"); err != nil || len(all) != 0 {
		t.Errorf("all streams show %d events of it, %v", len(all), err)
	}
	if list, err := s.REST.ListStreams(ctx, "soft"); err != nil || len(list) != 0 {
		t.Errorf("it is listed: %v %v", list, err)
	}
	expected := harness.StreamExists
	if _, err := s.REST.Append(ctx, harness.Append{Stream: "soft", Expected: &expected, Events: events(1)}); harness.Status(err) != 412 {
		t.Errorf("append expecting that it exists: %v, want 412", err)
	}
	// Versions go on: a pair of stream and version is used once.
	a := mustAppend(t, s.REST, "soft", harness.NoStream, "", events(2)...)
	if a.FirstVersion != 3 || a.NewVersion != 4 {
		t.Errorf("append after the delete: %+v, want 3 to 4", a)
	}
	page, err := s.REST.ReadPage(ctx, "soft", "")
	if err != nil || len(page.Events) != 2 || page.Events[0].Version != 3 {
		t.Errorf("read after it: %+v, %v", page, err)
	}
	if head, err := s.REST.Head(ctx, "soft"); err != nil || head.Version != 4 || head.Count != 2 {
		t.Errorf("head %+v, %v", head, err)
	}
	// The last version is accepted too.
	if err := s.REST.Delete(ctx, "soft", "soft", &a.NewVersion, ""); err != nil {
		t.Errorf("delete again: %v", err)
	}
	mustAppend(t, s.REST, "soft", 4, "", events(1)...)
}

func tombstone(t *testing.T, s *harness.Running) {
	ctx := t.Context()
	mustAppend(t, s.REST, "tomb", harness.NoStream, "", events(3)...)
	if err := s.REST.Delete(ctx, "tomb", "tombstone", nil, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.REST.ReadPage(ctx, "tomb", ""); harness.Status(err) != 410 {
		t.Errorf("read: %v, want 410", err)
	}
	if _, err := s.REST.Head(ctx, "tomb"); harness.Status(err) != 410 {
		t.Errorf("head: %v, want 410", err)
	}
	for _, expected := range []int64{harness.Any, harness.NoStream, harness.StreamExists, 2} {
		if _, err := s.REST.Append(ctx, harness.Append{Stream: "tomb", Expected: &expected, Events: events(1)}); harness.Status(err) != 410 {
			t.Errorf("append expecting %d: %v, want 410", expected, err)
		}
	}
	if all, err := s.REST.ReadAll(ctx, "stream_prefix=tomb"); err != nil || len(all) != 0 {
		t.Errorf("all streams show %d events of it, %v", len(all), err)
	}
}

func dataByteForByte(t *testing.T, s *harness.Running) {
	values := []string{
		`{"b":1,"a":2}`, `9007199254740993`, `1.0`, `1e2`, `-0`, `"é\u00e9\/"`, `{ "spaced" : [ 1 , 2 ] }`, `null`, `""`, `{"k":1,"k":2}`, `"<&>"`, `[]`, `true`, `123456789012345678901234567890.5`,
	}
	var b bytes.Buffer
	b.WriteString(`{"expected_version":-1,"events":[`)
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"event_type":"T","data":%s,"metadata":{"m": %s}}`, v, v)
	}
	b.WriteString(`,{"event_type":"T","data_base64":"AAECAwT/"}]}`)
	a, err := s.REST.Do(t.Context(), http.MethodPost, "/v1/streams/bytes/events", b.Bytes())
	if err != nil || a.Status/100 != 2 {
		t.Fatalf("append: %d %s %v", a.Status, a.Body, err)
	}
	a, err = s.REST.Do(t.Context(), http.MethodGet, "/v1/streams/bytes/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	var page struct {
		Events []struct {
			Data       json.RawMessage `json:"data"`
			Metadata   json.RawMessage `json:"metadata"`
			DataBase64 string          `json:"data_base64"`
		} `json:"events"`
	}
	if err := json.Unmarshal(a.Body, &page); err != nil || len(page.Events) != len(values)+1 {
		t.Fatalf("%d events, %v: %s", len(page.Events), err, a.Body)
	}
	for i, v := range values {
		if string(page.Events[i].Data) != v || string(page.Events[i].Metadata) != `{"m": `+v+`}` {
			t.Errorf("sent %s, got %s and metadata %s", v, page.Events[i].Data, page.Events[i].Metadata)
		}
	}
	if last := page.Events[len(values)]; last.DataBase64 != "AAECAwT/" || last.Data != nil {
		t.Errorf("binary: %+v", last)
	}
}

func readPages(t *testing.T, s *harness.Running) {
	mustAppend(t, s.REST, "pages", harness.NoStream, "", events(250)...)
	for _, c := range []struct {
		query       string
		first, last int64
		more        bool
		next        int64
	}{
		{"", 0, 99, true, 100},
		{"limit=10", 0, 9, true, 10},
		{"limit=10&from_version=245", 245, 249, false, -99},
		{"limit=4096", 0, 249, false, -99},
		{"direction=backward&limit=3", 249, 247, true, 246},
		{"direction=backward&from_version=1&limit=10", 1, 0, false, -99},
		{"from_version=250", 0, -1, false, -99},
		{"from_version=100000", 0, -1, false, -99},
	} {
		page, err := s.REST.ReadPage(t.Context(), "pages", c.query)
		if err != nil {
			t.Errorf("%q: %v", c.query, err)
			continue
		}
		if c.last < 0 {
			if len(page.Events) != 0 || page.HasMore {
				t.Errorf("%q: %d events, has_more %v, want none", c.query, len(page.Events), page.HasMore)
			}
			continue
		}
		if len(page.Events) == 0 || page.Events[0].Version != c.first || page.Events[len(page.Events)-1].Version != c.last || page.HasMore != c.more || page.StreamVersion != 249 {
			t.Errorf("%q: %d events, has_more %v, stream_version %d; want %d to %d, %v", c.query, len(page.Events), page.HasMore, page.StreamVersion, c.first, c.last, c.more)
		}
		if c.next != -99 && page.NextVersion != c.next {
			t.Errorf("%q: next_version %d, want %d", c.query, page.NextVersion, c.next)
		}
	}
	for _, query := range []string{"limit=0x", "limit=-1", "limit=5000", "direction=sideways", "from_version=-7", "from_version=x", "min_position=nonsense"} {
		if _, err := s.REST.ReadPage(t.Context(), "pages", query); harness.Status(err) != 400 {
			t.Errorf("%q: %v, want 400", query, err)
		}
	}
	head := mustAppend(t, s.REST, "pages", 249, "", events(1)...)
	page, err := s.REST.ReadPage(t.Context(), "pages", "from_version=250&min_position="+head.Position)
	if err != nil || len(page.Events) != 1 {
		t.Errorf("read with min_position: %+v %v", page, err)
	}
}

func filters(t *testing.T, s *harness.Running) {
	var in []harness.Event
	for i := range 30 {
		e := harness.Event{EventType: fmt.Sprintf("Filter%d", i%3), Data: json.RawMessage(`1`)}
		if i%2 == 0 {
			e.Tags = append(e.Tags, "even")
		}
		if i%5 == 0 {
			e.Tags = append(e.Tags, "five")
		}
		in = append(in, e)
	}
	mustAppend(t, s.REST, "filter-a", harness.NoStream, "", in...)
	mustAppend(t, s.REST, "filter-b", harness.NoStream, "", in[:10]...)
	for query, want := range map[string]int{
		"stream_prefix=filter-":                                        40,
		"stream_prefix=filter-b":                                       10,
		"event_type=Filter0&stream_prefix=filter-a":                    10,
		"event_type=Filter0&event_type=Filter1&stream_prefix=filter-a": 20,
		"tag=even&stream_prefix=filter-a":                              15,
		"tag=even&tag=five&stream_prefix=filter-a":                     3,
		"tag=even&event_type=Filter0&stream_prefix=filter-a":           5,
		"tag=nobody":         0,
		"event_type=FilterX": 0,
	} {
		all, err := s.REST.ReadAll(t.Context(), query)
		if err != nil || len(all) != want {
			t.Errorf("%s: %d events, %v, want %d", query, len(all), err, want)
		}
	}
}

func streamIDs(t *testing.T, s *harness.Running) {
	for _, id := range []string{"a", "with space", "sl/ash", "%41", "ü-ñ-日本", "{tag}-x", "a?b#c&d", ".", "..", strings.Repeat("x", 255), "events", `quo"te`} {
		a := mustAppend(t, s.REST, id, harness.NoStream, "", events(1)...)
		read, err := s.REST.ReadStream(t.Context(), id)
		if err != nil || len(read) != 1 || read[0].StreamID != id || a.StreamID != id {
			t.Errorf("stream %q: %+v %+v %v", id, a, read, err)
		}
	}
	for _, id := range []string{strings.Repeat("x", 256), "tab\there", "nul\x00", "\xff\xfe", "line\nbreak"} {
		_, err := s.REST.Append(t.Context(), harness.Append{Stream: id, Events: events(1)})
		if harness.Status(err) != 400 {
			t.Errorf("stream %q: %v, want 400", id, err)
		}
	}
}

func limits(t *testing.T, s *harness.Running) {
	large := func(n int) harness.Event { // an event is as large as its type, data and metadata
		return harness.Event{EventType: "Large", Data: json.RawMessage(`"` + strings.Repeat("x", n-len(`""`)-len("Large")) + `"`)}
	}
	for name, c := range map[string]struct {
		events []harness.Event
		want   int
	}{
		"the largest event":          {[]harness.Event{large(1 << 20)}, 200},
		"an event that is too large": {[]harness.Event{large(1<<20 + 1)}, 413},
		"the largest write":          {[]harness.Event{large(1 << 20), large(1 << 20), large(1 << 20), large(1 << 20)}, 200},
		"a write that is too large":  {[]harness.Event{large(1 << 20), large(1 << 20), large(1 << 20), large(1 << 20), large(100)}, 413},
		"too many events":            {events(1001), 413},
		"no events":                  {[]harness.Event{}, 400},
	} {
		for kind, store := range map[string]harness.Store{"rest": s.REST, "grpc": s.GRPC} {
			stream := "limits " + name + " " + kind
			_, err := store.Append(t.Context(), harness.Append{Stream: stream, Events: c.events})
			if harness.Status(err) != c.want {
				t.Errorf("%s, %s: %v, want %d", name, kind, err, c.want)
			}
			if head, err := s.REST.Head(t.Context(), stream); err != nil || (head.Version >= 0) != (c.want == 200) {
				t.Errorf("%s, %s: head %+v %v", name, kind, head, err)
			}
		}
	}
	// A body far over every limit is refused without being read whole.
	a, err := s.REST.Do(t.Context(), http.MethodPost, "/v1/streams/limits/events", bytes.Repeat([]byte(" "), 64<<20))
	if err == nil && a.Status != 413 {
		t.Errorf("64 MiB of white space: %d %s", a.Status, a.Body)
	}
}

func badInput(t *testing.T, s *harness.Running) {
	for _, body := range []string{
		``, ` `, `null`, `[]`, `"x"`, `{`, `{}`, `{"events":[]}`, `{"events":null}`, `{"events":{}}`, `{"events":[null]}`, `{"events":[1]}`, `{"events":[{}]}`,
		`{"events":[{"event_type":"T"}]}`,
		`{"events":[{"event_type":1,"data":1}]}`,
		`{"events":[{"event_type":"","data":1}]}`,
		`{"events":[{"event_type":null,"data":1}]}`,
		`{"events":[{"event_type":"T","data":}]}`,
		`{"events":[{"event_type":"T","data":nul}]}`,
		`{"events":[{"event_type":"T","data":01}]}`,
		`{"events":[{"event_type":"T","data":1,"data_base64":"AA=="}]}`,
		`{"events":[{"event_type":"T","data_base64":"not base64"}]}`,
		`{"events":[{"event_type":"T","data_base64":7}]}`,
		`{"events":[{"event_type":"T","data":1,"metadata":[]}]}`,
		`{"events":[{"event_type":"T","data":1,"metadata":"x"}]}`,
		`{"events":[{"event_type":"T","data":1,"tags":"x"}]}`,
		`{"events":[{"event_type":"T","data":1,"tags":[1]}]}`,
		`{"events":[{"event_type":"T","data":1,"tags":[""]}]}`,
		`{"events":[{"event_type":"T","data":1,"unknown":1}]}`,
		`{"events":[{"event_type":"T","data":1}],"unknown":1}`,
		`{"events":[{"event_type":"T","data":1}]}{}`,
		`{"events":[{"event_type":"T","data":1}]} x`,
		`{"events":[{"event_type":"T","data":1}],"events":[]}`,
		`{"expected_version":"0","events":[{"event_type":"T","data":1}]}`,
		`{"expected_version":1.5,"events":[{"event_type":"T","data":1}]}`,
		`{"expected_version":-3,"events":[{"event_type":"T","data":1}]}`,
		`{"expected_version":-5,"events":[{"event_type":"T","data":1}]}`,
		`{"expected_version":-9223372036854775808,"events":[{"event_type":"T","data":1}]}`,
		`{"expected_version":9223372036854775808,"events":[{"event_type":"T","data":1}]}`,
		`{"expected_version":1e400,"events":[{"event_type":"T","data":1}]}`,
		`{"expected_version":true,"events":[{"event_type":"T","data":1}]}`,
		"{\"events\":[{\"event_type\":\"T\xff\",\"data\":1}]}",
		"{\"events\":[{\"event_type\":\"T\",\"data\":\"\xff\"}]}",
		"{\"events\":[{\"event_type\":\"T\\ud800\",\"data\":1}]}",
		"{\"events\":[{\"event_type\":\"a\\u0000b\",\"data\":1}]}",
		"\x00\x01\x02", strings.Repeat("[", 100_000), `{"events":[{"event_type":"T","data":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}]}`,
	} {
		a, err := s.REST.Do(t.Context(), http.MethodPost, "/v1/streams/bad/events", []byte(body))
		if err != nil {
			t.Errorf("%.80q: %v", body, err)
			continue
		}
		p := a.Problem()
		if a.Status != 400 || a.Header.Get("Content-Type") != "application/problem+json" || p.Detail == "" || p.Type == "" {
			t.Errorf("%.80q: %d %s, want 400 as a problem", body, a.Status, a.Body)
		}
	}
	body := []byte(`{"events":[{"event_type":"T","data":1}]}`)
	for _, headers := range [][]string{
		{"Idempotency-Key", strings.Repeat("k", 256)},
		{"If-Match", "nonsense"},
		{"If-None-Match", "*", "If-Match", `"1"`},
	} {
		a, err := s.REST.Do(t.Context(), http.MethodPost, "/v1/streams/bad/events", body, headers...)
		if err != nil || a.Status != 400 {
			t.Errorf("%.80q: %d %s %v, want 400", headers, a.Status, a.Body, err)
		}
	}
	if head, err := s.REST.Head(t.Context(), "bad"); err != nil || head.Version != -1 {
		t.Errorf("something of it was written: %+v %v", head, err)
	}
	for _, query := range []string{"expected_version=x", "mode=hard", "expected_version=-3"} {
		if a, err := s.REST.Do(t.Context(), http.MethodDelete, "/v1/streams/bad?"+query, nil); err != nil || a.Status != 400 {
			t.Errorf("DELETE %s: %d %s %v, want 400", query, a.Status, a.Body, err)
		}
	}
	for _, path := range []string{"/v1/events?limit=x", "/v1/events?from_position=nonsense", "/v1/events?limit=-1", "/v1/streams?limit=99999", "/v1/streams?page_token=%ff"} {
		if a, err := s.REST.Do(t.Context(), http.MethodGet, path, nil); err != nil || a.Status != 400 {
			t.Errorf("GET %s: %d %s %v, want 400", path, a.Status, a.Body, err)
		}
	}
}

func noSuchPath(t *testing.T, s *harness.Running) {
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/v2/nothing", 404},
		{http.MethodGet, "/v1/streams/a/b/c", 404},
		{http.MethodPut, "/v1/streams/a/events", 405},
		{http.MethodPost, "/v1/events", 405},
	} {
		a, err := s.REST.Do(t.Context(), c.method, c.path, nil)
		if err != nil || a.Status != c.want || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d %s %v, want %d as a problem", c.method, c.path, a.Status, a.Body, err, c.want)
		}
	}
}
