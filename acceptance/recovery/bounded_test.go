package recovery

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/acceptance/history"
	"github.com/exesdb/exesdb/acceptance/load"
	"github.com/exesdb/exesdb/contracts/registry"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// What the broker keeps of a partition here instead of 64 MiB: what some seconds of a load exceed, and far more
// than its 32 writers have on the way.
const (
	boundOfBodies = 512 << 10
	boundOfRest   = 128 << 10 // of records that carry no events, some hundred bytes each
)

// dropped are the topics that the bound must have cut for these tests to show anything.
var dropped = []string{
	registry.StreamWriteRequested, registry.WriteCommandValidated, registry.EventsPersisted,
	registry.WriteAcknowledged, registry.NotificationTriggered,
}

var withBodies = []string{registry.StreamWriteRequested, registry.WriteCommandValidated, registry.NotificationTriggered}

// TestLogBoundedAwayBehindTheStore: the broker drops the beginning of the log, requests, outcomes, acknowledgements
// and feed while writes go on. Only the store has it all then: after a kill and after a clean stop all of it is
// there, and new writes and notifications go on.
func TestLogBoundedAwayBehindTheStore(t *testing.T) {
	t.Parallel()
	harness.EmbeddedOnly(t)
	for _, shards := range []int32{1, 4} {
		t.Run(fmt.Sprintf("%d-shards", shards), func(t *testing.T) {
			t.Parallel() // it mostly waits for the broker's sweep
			b := newBounded(t, shards)
			b.loadUntilDropped()
			b.s.All.Kill9()
			b.restarted()
			if code := b.s.All.Stop(); code != 0 {
				t.Errorf("exit code %d after SIGTERM", code)
			}
			b.restarted()
			b.s.StillUp()
		})
	}
}

// TestLogLeftAlone: time empties every topic that is kept for days, as a store sees it that was idle for a week.
func TestLogLeftAlone(t *testing.T) {
	t.Parallel()
	harness.EmbeddedOnly(t)
	b := newBounded(t, 1)
	b.loadSome()
	for _, kill := range []bool{true, false} {
		b.bound("retention.ms", "1", func(e registry.Event) bool { return e.Retention.Duration() > 0 })
		b.awaitOffsets("time has emptied the topics", func(event string, oldest, next int64) bool {
			return event == registry.WriteCommandValidated || oldest == next && next > 0
		})
		b.bound("retention.ms", "-1", func(e registry.Event) bool { return e.Retention.Duration() > 0 })
		if kill {
			b.s.All.Kill9()
		} else if code := b.s.All.Stop(); code != 0 {
			t.Errorf("exit code %d after SIGTERM", code)
		}
		b.restarted()
	}
	b.s.StillUp()
}

// TestLogEndsFarBehindTheStore: the files of the bounded log are gone, or its newer half is: `up` gives them back
// from the raw records of the store.
func TestLogEndsFarBehindTheStore(t *testing.T) {
	t.Parallel()
	harness.EmbeddedOnly(t)
	for _, shards := range []int32{1, 4} {
		t.Run(fmt.Sprintf("%d-shards", shards), func(t *testing.T) {
			t.Parallel() // it mostly waits for the broker's sweep
			b := newBounded(t, shards)
			b.loadUntilDropped()
			b.s.All.Kill9()
			for p := range shards {
				b.removeSegments(p, 0)
			}
			b.restarted()
			b.s.All.Kill9()
			for p := range shards {
				b.removeSegments(p, len(b.segments(p))/2)
			}
			b.restarted()
			b.s.StillUp()
		})
	}
}

// TestLogThatCannotBeGivenBackIsRefused: the log ends before the raw records that the store still has. Nothing is
// served from it, however often it is started; with the files put back, as the message says, all is there.
func TestLogThatCannotBeGivenBackIsRefused(t *testing.T) {
	t.Parallel()
	harness.EmbeddedOnly(t)
	b := newBounded(t, 1)
	b.bound("retention.bytes", "-1", func(e registry.Event) bool { return e.Name == registry.WriteCommandValidated })
	b.loadSome()
	b.writeBytes(80 << 20) // the store keeps the raw records of 64 MiB, and of 4 MiB more at most
	b.s.All.Kill9()
	dir := b.partition(0)
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	oldest := b.segments(0)[0]
	b.removeSegments(0, 1)
	if err := os.Truncate(filepath.Join(dir, fmt.Sprintf("%d.dat", oldest)), 2<<10); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b.s.All.Start()
		harness.Eventually(t, 15*time.Second, "the process refuses the log", func() error {
			if b.s.All.Running() {
				return fmt.Errorf("it runs")
			}
			return nil
		})
		if err := b.s.All.EndedByItself(); err == nil || !strings.Contains(err.Error(), "code 1") {
			t.Errorf("%v, want code 1", err)
		}
		if said := b.s.All.Tail(4 << 10); !strings.Contains(said, "repair the log of shard 0") || !strings.Contains(said, "restore the broker's directory from a backup") {
			t.Errorf("it says how to go on? %s", said)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	b.restarted()
	b.s.StillUp()
}

// TestStoreOlderThanTheLogIsRefused: the directory of the store is an old copy, and what it lacks has left the
// log. That shard is refused with replica_diverged, and nothing is skipped; with the right directory it goes on.
func TestStoreOlderThanTheLogIsRefused(t *testing.T) {
	t.Parallel()
	harness.EmbeddedOnly(t)
	b := newBounded(t, 1)
	s := b.s
	b.loadSome()
	store, old, right := filepath.Join(s.DataDir, "store"), filepath.Join(s.DataDir, "old"), filepath.Join(s.DataDir, "right")
	s.All.Stop()
	if err := os.CopyFS(old, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	s.All.Start()
	s.AwaitReady(30 * time.Second)
	b.loadUntilDropped()
	s.All.Stop()
	rename(t, store, right)
	rename(t, old, store)
	s.All.Start()
	topics := s.Topics()
	harness.Eventually(t, 20*time.Second, "the shard is refused", func() error {
		for _, r := range harness.ReadAs[*eventsv1.ReplicaDiverged](topics, registry.ReplicaDiverged) {
			if v := r.Value; v.GetShard() == 0 && strings.Contains(v.GetReason(), "the log begins at offset") && v.GetRepair() != "" {
				return nil
			}
		}
		return fmt.Errorf("no replica_diverged that says so")
	})
	harness.Eventually(t, 20*time.Second, "the system says that it is not ready, and why", func() error {
		system, err := s.REST.System(t.Context())
		if err != nil {
			return err
		}
		if missing := strings.Join(system.Missing, "; "); system.Ready || !strings.Contains(missing, "diverged") {
			return fmt.Errorf("ready: %v, missing: %s", system.Ready, missing)
		}
		return nil
	})
	if _, err := s.REST.Append(t.Context(), harness.Append{Stream: "refused", Key: "k", Events: []harness.Event{{EventType: "T", Data: []byte("1")}}}); harness.Status(err) != http.StatusServiceUnavailable {
		t.Errorf("append to a refused shard: %v, want 503", err)
	}
	s.StillUp()
	s.All.Stop()
	rename(t, store, old)
	rename(t, right, store)
	b.restarted()
	s.StillUp()
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// bounded is a system whose broker keeps little, and what its clients saw.
type bounded struct {
	t     *testing.T
	s     *harness.Running
	seed  uint64
	ops   []history.Op
	loads int
}

func newBounded(t *testing.T, shards int32) *bounded {
	t.Helper()
	b := &bounded{t: t, seed: harness.Seed(t), s: harness.Up(t, harness.Options{Shards: shards})}
	bodies := func(e registry.Event) bool { return slices.Contains(withBodies, e.Name) }
	rest := func(e registry.Event) bool { return !bodies(e) && !e.Retention.Compacted() } // those that `up` bounds
	parts := min(int(shards), 2)                                                          // a load is shared by the shards, so less per shard does
	b.bound("retention.bytes", strconv.Itoa(boundOfBodies/parts), bodies)
	b.bound("segment.bytes", strconv.Itoa(boundOfBodies/parts/8), bodies)
	b.bound("retention.bytes", strconv.Itoa(boundOfRest/parts), rest)
	b.bound("segment.bytes", strconv.Itoa(boundOfRest/parts/8), rest)
	return b
}

// bound changes a setting of topics, as an operator may: `up` leaves topics that exist as they are.
func (b *bounded) bound(name, value string, which func(registry.Event) bool) {
	b.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.s.Kafka))
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close()
	var topics []string
	for _, e := range registry.Events() {
		if which(e) {
			topics = append(topics, e.Topic(b.s.StoreID))
		}
	}
	altered, err := kadm.NewClient(client).AlterTopicConfigs(b.t.Context(), []kadm.AlterConfig{{Name: name, Value: &value}}, topics...)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, a := range altered {
		if a.Err != nil {
			b.t.Fatalf("set %s of %s to %s: %v", name, a.Name, value, a.Err)
		}
	}
}

func (b *bounded) start(o load.Options) *load.Load {
	b.t.Helper()
	o.Prefix, o.Seed = fmt.Sprintf("r%d-", b.loads), b.seed+uint64(b.loads) //nolint:gosec // small
	b.loads++
	return load.Start(b.t, b.s, o)
}

// loadSome is a load of less than the bound; the feed must then have all of it.
func (b *bounded) loadSome() {
	b.t.Helper()
	l := b.start(load.Options{MostOps: 300})
	l.AwaitFull(30 * time.Second)
	ops := l.Finish(20 * time.Second)
	b.ops = append(b.ops, ops...)
	load.CheckFeed(b.t, b.s, ops)
}

// loadUntilDropped writes until the beginning of every partition of the path is gone. It leaves the load's
// requests settled: what was in flight at a kill is the subject of package faults.
func (b *bounded) loadUntilDropped() {
	b.t.Helper()
	l := b.start(load.Options{MostOps: 1_000_000, Streams: 32})
	b.awaitOffsets("the beginning of the topics is dropped", func(_ string, oldest, _ int64) bool { return oldest > 0 })
	for p := range b.s.Shards {
		if b.segments(p)[0] == 0 {
			b.t.Errorf("the first segment of the log of shard %d is still a file: a restart would show it again", p)
		}
	}
	l.AwaitMore(500, 20*time.Second)
	b.ops = append(b.ops, l.Finish(20*time.Second)...)
}

// awaitOffsets waits until the oldest and the next offset of every partition of the path are as they should be.
func (b *bounded) awaitOffsets(what string, right func(event string, oldest, next int64) bool) {
	b.t.Helper()
	topics := b.s.Topics()
	harness.Eventually(b.t, 60*time.Second, what, func() error {
		ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
		defer cancel()
		for _, event := range dropped {
			for p := range topics.Partitions(event) {
				oldest, next, err := topics.Client.Watermark(ctx, registry.Topic(b.s.StoreID, event), p)
				if err != nil {
					return err
				}
				if !right(event, oldest, next) {
					return fmt.Errorf("%s/%d goes from %d to %d", event, p, oldest, next)
				}
			}
		}
		return nil
	})
}

// restarted starts the system again: everything is there, and new writes and their notifications go on.
func (b *bounded) restarted() {
	b.t.Helper()
	b.s.All.Start()
	b.s.AwaitReady(30 * time.Second)
	b.loadSome()
	b.check()
	if b.t.Failed() {
		b.t.FailNow()
	}
}

// check reads everything. That the order is linearizable is not searched for: these histories are too long.
func (b *bounded) check() {
	b.t.Helper()
	if err := history.CheckFinal(b.ops, load.Read(b.t, b.s, "r")); err != nil {
		b.t.Errorf("after the restart: %v", err)
	}
}

// writeBytes appends so much and a little more in large writes, and adds them to what must be there.
func (b *bounded) writeBytes(most int) {
	b.t.Helper()
	const size, events = 1_000_000, 4 // at most 1 MiB in an event and 4 MiB in a write
	const stream = "r-large"
	data := []byte(`"` + strings.Repeat("x", size) + `"`)
	for n := range most/size/events + 1 {
		first := int64(n * events)
		op := history.Op{
			Stream: stream, Key: fmt.Sprintf("large-%d", n), Expected: first - 1, Tries: 1, Call: int64(2 * n), Return: int64(2*n + 1),
			First: first, Version: first + events - 1,
		}
		request := harness.Append{Stream: stream, Key: op.Key, Expected: &op.Expected}
		for i := range events {
			e := harness.Event{EventID: fmt.Sprintf("%s/%d", op.Key, i), EventType: "Large", Data: data}
			request.Events = append(request.Events, e)
			op.Events = append(op.Events, history.Event{ID: e.EventID, Type: e.EventType, Data: e.Body()})
		}
		a, err := b.s.GRPC.Append(b.t.Context(), request)
		if err != nil || a.FirstVersion != op.First || a.NewVersion != op.Version {
			b.t.Fatalf("write %d of %d bytes: %+v %v", n, events*size, a, err)
		}
		b.ops = append(b.ops, op)
	}
}

func (b *bounded) partition(p int32) string {
	topic := registry.Topic(b.s.StoreID, registry.WriteCommandValidated)
	return filepath.Join(b.s.DataDir, "broker", "partitions", fmt.Sprintf("%s-%d", topic, p))
}

// segments of a shard's log by their first offset, oldest first.
func (b *bounded) segments(p int32) []int {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.partition(p), "*.dat"))
	if err != nil {
		b.t.Fatal(err)
	}
	if len(files) == 0 {
		b.t.Fatalf("no segments in %s", b.partition(p))
	}
	bases := make([]int, len(files))
	for i, f := range files {
		bases[i] = base(b.t, f)
	}
	slices.Sort(bases)
	return bases
}

// removeSegments removes all but the oldest segments of a shard's log.
func (b *bounded) removeSegments(p int32, keep int) {
	b.t.Helper()
	for _, n := range b.segments(p)[keep:] {
		for _, ending := range []string{"dat", "idx"} {
			if err := os.Remove(filepath.Join(b.partition(p), fmt.Sprintf("%d.%s", n, ending))); err != nil && !os.IsNotExist(err) {
				b.t.Fatal(err)
			}
		}
	}
}
