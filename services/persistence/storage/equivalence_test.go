package storage

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"github.com/exesdb/exesdb/services/persistence/core"
)

// drawLog makes a log as two owners could write it: claims, commands of the
// newest and of an older term, requests taken twice, retries with and without
// their body, writes of events that exist, deletes, rules, and rubbish.
func drawLog(t *rapid.T) []*eventsv1.WriteCommandValidated {
	type owner struct{ term, seq int64 }
	var log []*eventsv1.WriteCommandValidated
	var owners []owner
	request := int64(0)
	log = append(log, &eventsv1.WriteCommandValidated{Kind: eventsv1.CommandKind_COMMAND_KIND_CLAIM})
	owners = append(owners, owner{})
	n := rapid.IntRange(1, 120).Draw(t, "records")
	for len(log) < n {
		what := rapid.IntRange(0, 99).Draw(t, "what")
		at := rapid.Int64Range(0, 50).Draw(t, "at")
		newest := &owners[len(owners)-1]
		switch {
		case what < 3:
			owners = append(owners, owner{term: int64(len(log))})
			log = append(log, &eventsv1.WriteCommandValidated{Kind: eventsv1.CommandKind_COMMAND_KIND_CLAIM})
			continue
		case what < 5:
			log = append(log, nil)
			continue
		case what < 8:
			newest.seq++
			log = append(log, &eventsv1.WriteCommandValidated{
				Kind: eventsv1.CommandKind_COMMAND_KIND_RULES, Term: newest.term, Seq: newest.seq, RequestedAtMs: at,
				Rules: &eventsv1.ApplyRules{
					Version: 1, DedupeWindow: rapid.Int64Range(1, 40).Draw(t, "window"),
					MaxEventBytes: 1 << 20, MaxWriteBytes: 1 << 20, MaxWriteEvents: 100,
				},
			})
			continue
		}
		r := &eventsv1.WriteCommandValidated{
			Kind:     eventsv1.CommandKind_COMMAND_KIND_APPEND,
			StreamId: fmt.Sprintf("cat%d-%d", rapid.IntRange(0, 1).Draw(t, "category"), rapid.IntRange(0, 2).Draw(t, "stream")),
			WriteId:  fmt.Sprintf("w%d", rapid.IntRange(0, 25).Draw(t, "write")), RequestedAtMs: at,
			ExpectedVersion: rapid.SampledFrom([]int64{-1, -2, -2, -2, -4, 0, 1, 2, 3}).Draw(t, "expected"),
		}
		if rapid.IntRange(0, 9).Draw(t, "body") == 0 {
			r.BodyHash = []byte("other")
		}
		switch {
		case what < 18:
			r.Kind = eventsv1.CommandKind_COMMAND_KIND_SOFT_DELETE
		case what < 21:
			r.Kind = eventsv1.CommandKind_COMMAND_KIND_TOMBSTONE
		default:
			first := rapid.IntRange(0, 40).Draw(t, "first event")
			for i := range rapid.IntRange(1, 3).Draw(t, "events") {
				r.Events = append(r.Events, &eventsv1.NewEvent{
					EventId: fmt.Sprintf("e%d", first+i), EventType: fmt.Sprintf("type%d", first%3),
					Data: []byte(r.WriteId), Tags: []string{fmt.Sprintf("tag%d", first%4), "all", "all"},
				})
			}
		}
		by := newest
		if len(owners) > 1 && what%7 == 0 {
			by = &owners[len(owners)-2]
		}
		by.seq++
		r.Term, r.Seq = by.term, by.seq
		if rapid.IntRange(0, 9).Draw(t, "taken twice") > 0 {
			request++
		}
		r.RequestOffset = request
		log = append(log, r)
	}
	return log
}

// play applies a log in batches of those sizes, again and again.
func play(t *rapid.T, s *Shard, log []*eventsv1.WriteCommandValidated, sizes []int) []*eventsv1.Outcome {
	var outs []*eventsv1.Outcome
	for i := 0; len(log) > 0; i++ {
		n := min(sizes[i%len(sizes)], len(log))
		view, err := s.ReadAhead(log[:n])
		if err != nil {
			t.Fatal(err)
		}
		state, overlay, batch := s.State(), core.NewOverlay(view), s.NewBatch()
		for _, r := range log[:n] {
			offset := state.Applied + 1
			next, ch, err := core.Apply(state, core.Command{Offset: offset, Record: r, RecordHash: uint64(offset) * 7}, overlay)
			if err != nil {
				t.Fatalf("log offset %d: %v", offset, err)
			}
			state = next
			overlay.Add(ch)
			if err := batch.Add(state, ch, RawRecord{Offset: offset, Value: []byte{1}}); err != nil {
				t.Fatal(err)
			}
			outs = append(outs, ch.Outcome)
		}
		if err := batch.Commit(); err != nil {
			t.Fatal(err)
		}
		log = log[n:]
	}
	return outs
}

func memShard(t *rapid.T, name string, fs vfs.FS) (*Shard, func()) {
	store, err := Open(name, Options{FS: fs, CacheBytes: 1 << 20, MemTableBytes: 1 << 18})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Shard(0)
	if err != nil {
		t.Fatal(err)
	}
	return s, func() {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_ = store.Close()
	}
}

// Whatever the batches, every outcome is the model's, and every byte is the same.
func TestReplicasAgreeWhateverTheirBatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := drawLog(t)
		fs := vfs.NewMem()
		one, closeOne := memShard(t, "one", fs)
		defer closeOne()
		other, closeOther := memShard(t, "other", fs)
		defer closeOther()

		outs := play(t, one, log, []int{1})
		again := play(t, other, log, rapid.SliceOfN(rapid.IntRange(1, 50), 1, 5).Draw(t, "batches"))
		m := newModel()
		for i, o := range outs {
			if !proto.Equal(o, again[i]) {
				t.Fatalf("log offset %d: %v with batches of 1, else %v", i, o, again[i])
			}
			if want, got := m.apply(int64(i), log[i]), verdictOf(o); !reflect.DeepEqual(got, want) {
				t.Fatalf("log offset %d, %v:\n got %+v\nwant %+v", i, log[i], got, want)
			}
		}
		a, err := one.Digest()
		if err != nil {
			t.Fatal(err)
		}
		b, err := other.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if a != b || one.State() != other.State() {
			t.Fatalf("digests %x and %x, states\n%+v\n%+v", a, b, one.State(), other.State())
		}
		if err := one.Check(context.Background(), nil, func(f Finding) { t.Errorf("check: %s", f.What) }); err != nil {
			t.Fatal(err)
		}
		m.agreesWith(t, one)
	})
}

// agreesWith compares what can be read with what the model has.
func (m *model) agreesWith(t *rapid.T, s *Shard) {
	hidden := func(e modelEvent) bool {
		_, first, _, _ := m.stream(e.stream)
		return e.version < first
	}
	var want []string
	streams := map[string][]string{}
	for _, e := range m.appended {
		if !hidden(e) {
			want = append(want, e.id)
			streams[e.stream] = append(streams[e.stream], e.id)
		}
	}
	limit := rapid.Int32Range(1, 10).Draw(t, "limit")
	got := readPages(t, s, &eventsv1.HistoricalEventsRequested{
		Query: eventsv1.HistoricalEventsRequested_QUERY_ALL, AfterOffset: -1, Limit: limit,
	})
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("all events: %v, want %v", got, want)
	}
	for stream, ids := range streams {
		got := readPages(t, s, &eventsv1.HistoricalEventsRequested{
			Query: eventsv1.HistoricalEventsRequested_QUERY_STREAM, StreamId: stream, Limit: limit,
		})
		if fmt.Sprint(got) != fmt.Sprint(ids) {
			t.Fatalf("stream %s: %v, want %v", stream, got, ids)
		}
		back := readPages(t, s, &eventsv1.HistoricalEventsRequested{
			Query: eventsv1.HistoricalEventsRequested_QUERY_STREAM, StreamId: stream, Limit: limit, Backward: true, FromVersion: -1,
		})
		for i := range back {
			if len(back) != len(ids) || back[i] != ids[len(ids)-1-i] {
				t.Fatalf("stream %s backward: %v, want the reverse of %v", stream, back, ids)
			}
		}
	}
	live := readPages(t, s, &eventsv1.HistoricalEventsRequested{Query: eventsv1.HistoricalEventsRequested_QUERY_STREAMS, Limit: limit})
	if len(live) != len(streams) {
		t.Fatalf("live streams: %v, want %v", live, streams)
	}
}

// readPages follows the cursors to the end; it gives event ids, or stream ids.
func readPages(t interface {
	Fatal(...any)
	Fatalf(string, ...any)
}, s *Shard, req *eventsv1.HistoricalEventsRequested) []string {
	var ids []string
	for range 10_000 {
		page := load(t, s, req)
		for _, e := range page.Events {
			ids = append(ids, e.EventId)
		}
		for _, i := range page.Streams {
			ids = append(ids, i.StreamId)
		}
		if !page.HasMore {
			return ids
		}
		req.FromVersion, req.AfterOffset, req.AfterIndex, req.AfterStream = page.NextVersion, page.NextOffset, page.NextIndex, page.NextStream
	}
	t.Fatalf("%v has no end", req)
	return nil
}

func load(t interface {
	Fatal(...any)
	Fatalf(string, ...any)
}, s *Shard, req *eventsv1.HistoricalEventsRequested) *eventsv1.HistoricalEventsLoaded {
	raw, err := s.Load(req, "persistence-0")
	if err != nil {
		t.Fatal(err)
	}
	page := new(eventsv1.HistoricalEventsLoaded)
	if err := proto.Unmarshal(raw, page); err != nil {
		t.Fatal(err)
	}
	return page
}
