package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"github.com/exesdb/exesdb/services/persistence/core"
)

func TestRecordedEventsAreEncodedAsProtobufDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String()
		want := &eventsv1.RecordedEvent{
			EventId: name.Draw(t, "id"), EventType: name.Draw(t, "type"), StreamId: name.Draw(t, "stream"),
			Version: rapid.Int64Min(0).Draw(t, "version"), Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"),
			Binary: rapid.Bool().Draw(t, "binary"), Metadata: rapid.SliceOf(rapid.Byte()).Draw(t, "metadata"),
			Tags: rapid.SliceOf(name).Draw(t, "tags"), CreatedAtMs: rapid.Int64().Draw(t, "created"),
			Shard: rapid.Int32Min(0).Draw(t, "shard"), LogOffset: rapid.Int64Min(0).Draw(t, "offset"), Index: rapid.Int32Min(0).Draw(t, "index"),
		}
		raw := appendRecorded(nil, &eventsv1.NewEvent{
			EventId: want.EventId, EventType: want.EventType, Data: want.Data, Binary: want.Binary, Metadata: want.Metadata, Tags: want.Tags,
		}, recorded{
			stream: want.StreamId, version: want.Version, createdAtMS: want.CreatedAtMs, shard: want.Shard,
			at: position{offset: want.LogOffset, index: want.Index},
		})
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(raw, b) {
			t.Fatalf("encoded %x, protobuf has %x", raw, b)
		}
		stream, version, err := peek(raw)
		if err != nil || string(stream) != want.StreamId || version != want.Version {
			t.Fatalf("peek gives %q, %d, %v; want %q, %d", stream, version, err, want.StreamId, want.Version)
		}
	})
}

func TestMetaComesBack(t *testing.T) {
	m := meta{State: core.Initial(), Events: 5, Deletes: 6, Raw: []rawChunk{{1, 2}, {3, 4}}}
	m.Applied, m.Term, m.Seq, m.RequestOffset, m.TimeMS, m.OutcomeHash, m.RecordHash, m.ForgottenBelow, m.SweptBelow = 1, 2, 3, 4, 5, 6, 7, 8, 9
	got, err := readMeta(m.append(nil))
	if err != nil || fmt.Sprint(got) != fmt.Sprint(m) {
		t.Fatalf("got %+v, %v; want %+v", got, err, m)
	}
	if _, err := readMeta([]byte{formatVersion + 1}); err == nil || !strings.Contains(err.Error(), "storage format") {
		t.Fatalf("another format: %v", err)
	}
}

// What was committed survives a crash that drops everything unsynced; what was
// not committed is not there in part.
func TestCommitsSurviveACrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	store, err := Open("data", Options{FS: fs, MemTableBytes: 1 << 18})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Shard(0)
	if err != nil {
		t.Fatal(err)
	}
	l := new(logOf)
	applyTo(t, s, l.claim())
	for i := range int64(300) { // enough for flushes and compactions
		applyTo(t, s, l.append(fmt.Sprintf("s-%d", i%7), id("w", i), core.ExpectAny, event(id("e", i), "t", 4096, "tag")))
	}
	want, err := s.Digest()
	if err != nil {
		t.Fatal(err)
	}
	unfinished := s.NewBatch()
	state, ch, err := core.Apply(s.State(), core.Command{Offset: s.State().Applied + 1, Record: l.append("s-0", "lost", core.ExpectAny, event("lost", "t", 10))}, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := unfinished.Add(state, ch, RawRecord{Offset: state.Applied}); err != nil {
		t.Fatal(err)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := errors.Join(unfinished.Close(), s.Close(), store.Close()); err != nil {
		t.Fatal(err)
	}

	again := openShard(t, "data", Options{FS: crashed, MemTableBytes: 1 << 18})
	if got, err := again.Digest(); err != nil || got != want {
		t.Fatalf("after the crash the digest is %x, %v; want %x", got, err, want)
	}
	if again.State().Applied != 300 {
		t.Fatalf("applied %d, want 300", again.State().Applied)
	}
	if _, found, err := again.Event("lost"); found || err != nil {
		t.Fatalf("an event that was not committed: found %v, %v", found, err)
	}
	mustBeClean(t, again)
}

func mustBeClean(t *testing.T, s *Shard) {
	t.Helper()
	if err := s.Check(context.Background(), nil, func(f Finding) { t.Errorf("check: %s", f.What) }); err != nil {
		t.Fatal(err)
	}
}

func TestTheStoreKeepsItsUUID(t *testing.T) {
	fs := vfs.NewCrashableMem()
	first, err := Open("data", Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open("data", Options{FS: fs.CrashClone(vfs.CrashCloneCfg{})})
	if err != nil {
		t.Fatal(err)
	}
	wiped, err := Open("data", Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	if first.UUID() != again.UUID() || first.UUID() == wiped.UUID() {
		t.Fatalf("UUIDs %s, %s after a crash, %s after a wipe", first.UUID(), again.UUID(), wiped.UUID())
	}
	_ = errors.Join(first.Close(), again.Close(), wiped.Close())
}

func TestReadOnlyChangesNothing(t *testing.T) {
	fs := vfs.NewMem()
	if _, err := Open("none", Options{FS: fs, ReadOnly: true}); err == nil {
		t.Fatal("a store that is not there was opened for reading")
	}
	store, err := Open("data", Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Shard(0)
	if err != nil {
		t.Fatal(err)
	}
	l := new(logOf)
	applyTo(t, s, l.claim(), l.append("s", "w", -1, event("e", "t", 10)))
	want, err := s.Digest()
	if err := errors.Join(err, s.Close(), store.Close()); err != nil {
		t.Fatal(err)
	}
	again := openShard(t, "data", Options{FS: fs, ReadOnly: true})
	mustBeClean(t, again)
	if got, err := again.Digest(); err != nil || got != want {
		t.Fatalf("digest %x, %v; want %x", got, err, want)
	}
}

// A full disk refuses the commit before Pebble would end the process; the same
// batch goes through when there is space.
func TestFullDiskRefusesCommits(t *testing.T) {
	fs := vfs.NewMem()
	s := openShard(t, "data", Options{FS: fs})
	l := new(logOf)
	applyTo(t, s, l.claim())
	state, ch, err := core.Apply(s.State(), core.Command{Offset: 1, Record: l.append("s", "w", -1, event("e", "t", 10))}, s)
	if err != nil {
		t.Fatal(err)
	}
	b := s.NewBatch()
	if err := b.Add(state, ch, RawRecord{Offset: 1}); err != nil {
		t.Fatal(err)
	}
	const total = 1 << 40
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: defaultMinFree, TotalBytes: total})
	err = b.Commit()
	var full *DiskFullError
	if !errors.Is(err, ErrDiskFull) || !errors.As(err, &full) || full.NeedBytes <= defaultMinFree {
		t.Fatalf("commit on a full disk: %v", err)
	}
	if _, found, _ := s.Event("e"); found || s.State().Applied != 0 {
		t.Fatal("a refused commit has changed something")
	}
	// 2% of a small disk.
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 3 << 20, TotalBytes: 100 << 20})
	if err := b.Commit(); err != nil {
		t.Fatalf("commit with space: %v", err)
	}
	if _, found, _ := s.Event("e"); !found || s.State().Applied != 1 {
		t.Fatal("the commit is not there")
	}
}

func TestRawRecordsOfTheLastStretchAreKept(t *testing.T) {
	s := openShard(t, "data", Options{FS: vfs.NewMem()})
	l := new(logOf)
	applyTo(t, s, l.claim())
	value := body(2 << 20)
	state := s.State()
	for range 60 {
		b := s.NewBatch()
		next, ch, err := core.Apply(state, core.Command{Offset: state.Applied + 1}, s)
		if err != nil {
			t.Fatal(err)
		}
		state = next
		raw := RawRecord{Offset: state.Applied, TimestampMS: 7, Key: nil, Value: value, Headers: []RawHeader{{Key: []byte("k"), Value: []byte{}}}}
		if err := b.Add(state, ch, raw); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	var offsets []int64
	err := s.RawRecords(0, func(r RawRecord) error {
		offsets = append(offsets, r.Offset)
		if !bytes.Equal(r.Value, value) || r.Key != nil || r.TimestampMS != 7 || len(r.Headers) != 1 || r.Headers[0].Value == nil {
			t.Errorf("record %d came back as %v, %d headers", r.Offset, r.Key, len(r.Headers))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	first := offsets[0]
	if kept := int64(len(offsets)) * (2 << 20); kept < rawBytes || kept > rawBytes+2*rawChunkBytes {
		t.Fatalf("%d bytes of raw records are kept, from offset %d", kept, first)
	}
	for i, o := range offsets {
		if o != first+int64(i) {
			t.Fatalf("raw records have a hole: %v", offsets)
		}
	}
	stop := errors.New("stop")
	if err := s.RawRecords(50, func(r RawRecord) error {
		if r.Offset != 50 {
			t.Errorf("begins at %d, want 50", r.Offset)
		}
		return stop
	}); !errors.Is(err, stop) {
		t.Fatal(err)
	}
}

// filled has types, tags, categories, a soft-deleted and a tombstoned stream.
func filled(t *testing.T) *Shard {
	s := openShard(t, "data", Options{FS: vfs.NewMem()})
	l := new(logOf)
	records := []*eventsv1.WriteCommandValidated{l.claim()}
	for i := range int64(60) {
		stream := fmt.Sprintf("%s-%d", []string{"order", "orders", "user"}[i%3], i%4)
		records = append(records, l.append(stream, fmt.Sprintf("w%d", i), core.ExpectAny,
			event(fmt.Sprintf("e%d.0", i), fmt.Sprintf("type%d", i%5), 20, fmt.Sprintf("m%d", i%2), fmt.Sprintf("n%d", i%7)),
			event(fmt.Sprintf("e%d.1", i), "second", 20, "m0", "m0")))
	}
	records = append(records,
		l.delete("order-0", "d1", eventsv1.CommandKind_COMMAND_KIND_SOFT_DELETE),
		l.delete("user-1", "d2", eventsv1.CommandKind_COMMAND_KIND_TOMBSTONE),
		l.append("order-0", "after", -1, event("after", "type0", 20, "m0")))
	applyTo(t, s, records...)
	return s
}

// Every selector gives what a scan of everything would, and the cursor leads to
// the end however small the pages are.
func TestSelectors(t *testing.T) {
	s := filled(t)
	var everything []*eventsv1.RecordedEvent
	all := &eventsv1.HistoricalEventsRequested{Query: eventsv1.HistoricalEventsRequested_QUERY_ALL, AfterOffset: -1, AfterIndex: -1}
	everything = append(everything, load(t, s, all).Events...)
	if n := len(everything); n < 80 || n > 115 {
		t.Fatalf("%d events are visible", n)
	}
	for name, sel := range map[string]*eventsv1.Selector{
		"all":                {},
		"type":               {EventTypes: []string{"type1"}},
		"types":              {EventTypes: []string{"type1", "type4", "none"}},
		"tag":                {TagsAny: []string{"n3"}},
		"tags any":           {TagsAny: []string{"n3", "m1"}},
		"tags all":           {TagsAll: []string{"n3", "m1"}},
		"type and tags":      {EventTypes: []string{"type0", "type2"}, TagsAll: []string{"m0"}, TagsAny: []string{"n1", "n2", "n0"}},
		"prefix":             {StreamPrefix: "order"},
		"category":           {StreamPrefix: "order-"},
		"stream by prefix":   {StreamPrefix: "orders-1"},
		"pattern":            {StreamPattern: "user-*"},
		"whole pattern":      {StreamPattern: "user-2"},
		"category and type":  {StreamPrefix: "order-", EventTypes: []string{"second"}},
		"nothing":            {EventTypes: []string{"none"}},
		"empty intersection": {TagsAll: []string{"n1", "n2"}},
	} {
		var want []string
		for _, e := range everything {
			if selects(sel, e) {
				want = append(want, e.EventId)
			}
		}
		for _, limit := range []int32{1, 2, 1000} {
			req := proto.Clone(all).(*eventsv1.HistoricalEventsRequested)
			req.Selector, req.Limit = sel, limit
			if got := readPages(t, s, req); !slices.Equal(got, want) {
				t.Errorf("%s, limit %d: %v, want %v", name, limit, got, want)
			}
		}
	}
	for name, req := range map[string]*eventsv1.HistoricalEventsRequested{
		"no query":  {},
		"no stream": {Query: eventsv1.HistoricalEventsRequested_QUERY_STREAM},
		"backward":  {Query: eventsv1.HistoricalEventsRequested_QUERY_ALL, Backward: true},
		"NUL":       {Query: eventsv1.HistoricalEventsRequested_QUERY_ALL, Selector: &eventsv1.Selector{TagsAll: []string{"a\x00b"}}},
		"terms":     {Query: eventsv1.HistoricalEventsRequested_QUERY_ALL, Selector: &eventsv1.Selector{TagsAny: make([]string, maxTerms+1)}},
	} {
		var bad *QueryError
		if _, err := s.Load(req, "me"); !errors.As(err, &bad) {
			t.Errorf("%s: %v, want a QueryError", name, err)
		}
	}
}

func selects(sel *eventsv1.Selector, e *eventsv1.RecordedEvent) bool {
	has := func(tag string) bool { return slices.Contains(e.Tags, tag) }
	if len(sel.EventTypes) > 0 && !slices.Contains(sel.EventTypes, e.EventType) {
		return false
	}
	if len(sel.TagsAny) > 0 && !slices.ContainsFunc(sel.TagsAny, has) {
		return false
	}
	for _, tag := range sel.TagsAll {
		if !has(tag) {
			return false
		}
	}
	pattern, glob := strings.CutSuffix(sel.StreamPattern, "*")
	return strings.HasPrefix(e.StreamId, sel.StreamPrefix) && strings.HasPrefix(e.StreamId, pattern) && (glob || pattern == "" || e.StreamId == pattern)
}

func TestCursors(t *testing.T) {
	s := filled(t)
	stream := &eventsv1.HistoricalEventsRequested{Query: eventsv1.HistoricalEventsRequested_QUERY_STREAM, StreamId: "orders-1", Limit: 3}
	page := load(t, s, stream)
	if len(page.Events) != 3 || !page.HasMore || page.NextVersion != 3 || page.AppliedOffset != s.State().Applied ||
		page.Stream.State != eventsv1.StreamState_STREAM_STATE_LIVE || page.Stream.Count != page.Stream.Version+1 {
		t.Fatalf("first page: %v", page)
	}
	stream.MaxBytes = 1 // the first event always has room
	if page = load(t, s, stream); len(page.Events) != 1 || !page.HasMore {
		t.Fatalf("page of one byte: %v", page)
	}
	stream.FromVersion, stream.MaxBytes = 1000, 0
	if page = load(t, s, stream); len(page.Events) != 0 || page.HasMore || page.NextVersion != 1000 {
		t.Fatalf("past the end: %v", page)
	}
	stream.StreamId, stream.FromVersion = "order-0", 0
	if page = load(t, s, stream); len(page.Events) != 1 || page.Events[0].EventId != "after" || page.Stream.FirstVersion != page.Events[0].Version {
		t.Fatalf("after a soft delete: %v", page)
	}
	stream.Query, stream.StreamId = eventsv1.HistoricalEventsRequested_QUERY_HEAD, "user-1"
	if page = load(t, s, stream); page.Stream.State != eventsv1.StreamState_STREAM_STATE_TOMBSTONED || page.Stream.Count != 0 {
		t.Fatalf("head of a tombstoned stream: %v", page)
	}
	stream.StreamId = "none"
	if page = load(t, s, stream); page.Stream.State != eventsv1.StreamState_STREAM_STATE_UNSPECIFIED || page.Stream.Version != -1 || page.Stream.Count != 0 {
		t.Fatalf("head of no stream: %v", page)
	}
	end := load(t, s, &eventsv1.HistoricalEventsRequested{Query: eventsv1.HistoricalEventsRequested_QUERY_ALL, AfterOffset: -1})
	if end.HasMore || end.NextOffset != s.State().Applied {
		t.Fatalf("at the end the cursor is (%d, %d), applied %d", end.NextOffset, end.NextIndex, s.State().Applied)
	}
	// Index -1 is before the first event of that offset, whatever was in between.
	two := load(t, s, &eventsv1.HistoricalEventsRequested{Query: eventsv1.HistoricalEventsRequested_QUERY_ALL, AfterOffset: 5, AfterIndex: -1, Limit: 1})
	if two.Events[0].LogOffset != 5 || two.Events[0].Index != 0 {
		t.Fatalf("after (5, -1): %v", two.Events[0])
	}
	prefixed := readPages(t, s, &eventsv1.HistoricalEventsRequested{
		Query: eventsv1.HistoricalEventsRequested_QUERY_STREAMS, Selector: &eventsv1.Selector{StreamPrefix: "user-"}, Limit: 1,
	})
	if want := []string{"user-0", "user-2", "user-3"}; !slices.Equal(prefixed, want) {
		t.Fatalf("streams of a prefix: %v, want %v", prefixed, want)
	}
}

// A filter that matches nothing costs a bounded scan, and says where to go on.
func TestPagesAreBoundedWhenNothingMatches(t *testing.T) {
	s := openShard(t, "data", Options{FS: vfs.NewMem()})
	s.pageKeys = 500
	l := new(logOf)
	applyTo(t, s, l.claim())
	for n := range 120 {
		events := make([]*eventsv1.NewEvent, 10)
		for i := range events {
			events[i] = event(fmt.Sprintf("e%d.%d", n, i), "t", 1, []string{"even", "odd"}[i%2])
		}
		applyTo(t, s, l.append("s", fmt.Sprintf("w%d", n), core.ExpectAny, events...))
	}
	for name, sel := range map[string]*eventsv1.Selector{
		"prefix":       {StreamPrefix: "zzz"},
		"intersection": {TagsAll: []string{"even", "odd"}},
	} {
		req := &eventsv1.HistoricalEventsRequested{Query: eventsv1.HistoricalEventsRequested_QUERY_ALL, AfterOffset: -1, Selector: sel}
		page := load(t, s, req)
		if !page.HasMore || len(page.Events) > 0 || page.NextOffset < 10 || page.NextOffset > 110 {
			t.Errorf("%s: has more %v, cursor %d", name, page.HasMore, page.NextOffset)
		}
		if got := readPages(t, s, req); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Every kind of damage is found.
func TestCheckFindsDamage(t *testing.T) {
	const at = 3
	body := offsetKey(nil, prefixBody, at)
	for name, damage := range map[string]func(*pebble.Batch) error{
		"lost body":    func(b *pebble.Batch) error { return b.Delete(body, nil) },
		"lost version": func(b *pebble.Batch) error { return b.Delete(versionKey(nil, "orders-1", 0), nil) },
		"lost id":      func(b *pebble.Batch) error { return b.Delete(nameKey(nil, prefixEvent, "e1.0"), nil) },
		"lost outcome": func(b *pebble.Batch) error { return b.Delete(offsetKey(nil, prefixOutcome, 5), nil) },
		"lost head":    func(b *pebble.Batch) error { return b.Delete(nameKey(nil, prefixHead, "orders-1"), nil) },
		"lost tag": func(b *pebble.Batch) error {
			return b.Delete(termKey(nil, prefixTag, "m0", at), nil)
		},
		"surplus type": func(b *pebble.Batch) error { return b.Set(termKey(nil, prefixType, "x", at), nil, nil) },
		"surplus id": func(b *pebble.Batch) error {
			return b.Set(nameKey(nil, prefixEvent, "x"), appendPlace(nil, core.Place{Stream: "s"}), nil)
		},
		"surplus version": func(b *pebble.Batch) error {
			return b.Set(versionKey(nil, "orders-1", 77), appendSpan(nil, span{offset: at, count: 1}), nil)
		},
		"wrong head": func(b *pebble.Batch) error {
			return b.Set(nameKey(nil, prefixHead, "orders-1"), appendHead(nil, core.Head{State: core.Live, Version: 2}), nil)
		},
		"wrong memory": func(b *pebble.Batch) error {
			return b.Set(nameKey(nil, prefixWrite, "w1"), appendWrite(nil, core.Write{Offset: 4}), nil)
		},
		"broken outcome": func(b *pebble.Batch) error { return b.Set(offsetKey(nil, prefixOutcome, 5), []byte{1}, nil) },
		"shorter write": func(b *pebble.Batch) error {
			return b.Set(versionKey(nil, "orders-1", 0), appendSpan(nil, span{offset: at, count: 1}), nil)
		},
		"empty write": func(b *pebble.Batch) error { return b.Set(body, nil, nil) },
		"broken body": func(b *pebble.Batch) error { return b.Set(body, []byte{1}, nil) },
		"impossible head": func(b *pebble.Batch) error {
			return b.Set(nameKey(nil, prefixHead, "q"), appendHead(nil, core.Head{State: core.Live, Version: -1}), nil)
		},
		"surplus category": func(b *pebble.Batch) error { return b.Set(termKey(nil, prefixCategory, "x", at), nil, nil) },
	} {
		s := filled(t)
		mustBeClean(t, s)
		b := s.db.NewBatch()
		if err := errors.Join(damage(b), b.Commit(pebble.Sync)); err != nil {
			t.Fatal(err)
		}
		var findings []string
		progressed := false
		err := s.Check(context.Background(), func(CheckProgress) { progressed = true }, func(f Finding) { findings = append(findings, f.What) })
		if err != nil || len(findings) == 0 || !progressed {
			t.Errorf("%s: findings %v, error %v, progress %v", name, findings, err, progressed)
		}
	}
}
