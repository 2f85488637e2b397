package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/persistence/storage"
	"github.com/exesdb/exesdb/shared/bus"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// rig is a replica with its surroundings.
type rig struct {
	*memory
	fs      *vfs.MemFS
	leads   atomic.Bool
	alone   atomic.Bool
	mu      sync.Mutex
	control []proto.Message

	replica *Replica
	stop    func() error
}

func newRig() *rig {
	g := &rig{memory: newMemory(), fs: vfs.NewMem()}
	g.leads.Store(true)
	return g
}

// start runs the replica until stop, which gives its error.
func (g *rig) start(t *testing.T) {
	t.Helper()
	store, err := storage.Open("data", storage.Options{FS: g.fs, CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Shard(0)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	acked := NewAcknowledged(g, envelope{}, log)
	g.replica = New(Options{
		Node: "p-0", Store: db, Bus: g, Envelope: envelope{}, Acknowledged: acked, AnnounceWrites: true, Log: log,
		Leads: func() (bool, int64) { return g.leads.Load(), 7 }, Alone: g.alone.Load,
		Publish: func(_ context.Context, _, _ string, msg proto.Message) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.control = append(g.control, msg)
			return nil
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	var acks sync.WaitGroup
	acks.Go(func() { _ = acked.Run(ctx) })
	go func() { done <- g.replica.Run(ctx) }()
	g.stop = sync.OnceValue(func() error {
		cancel()
		err := <-done
		acks.Wait()
		return errors.Join(err, db.Close(), store.Close())
	})
	t.Cleanup(func() { _ = g.stop() })
}

func (g *rig) log(records ...bus.Record) { g.put(registry.WriteCommandValidated, records...) }

func (g *rig) acknowledge(offset int64) {
	value, _ := proto.Marshal(&eventsv1.ShardAcknowledged{LogOffset: offset, Owner: "store-0"})
	g.put(registry.ShardAcknowledged, bus.Record{Key: []byte("0"), Value: value})
}

func persisted(t *testing.T, records []bus.Record) []*eventsv1.Outcome {
	t.Helper()
	var outs []*eventsv1.Outcome
	for _, r := range records {
		e := new(eventsv1.EventsPersisted)
		if err := proto.Unmarshal(r.Value, e); err != nil {
			t.Fatal(err)
		}
		outs = append(outs, e.Outcome)
	}
	return outs
}

// inOrder fails unless the outcomes are those of consecutive offsets.
func inOrder(t *testing.T, outs []*eventsv1.Outcome, from int64) {
	t.Helper()
	for i, o := range outs {
		if o.LogOffset != from+int64(i) || o.PreviousOffset != o.LogOffset-1 {
			t.Fatalf("outcome %d is of log offset %d after %d, want %d", i, o.LogOffset, o.PreviousOffset, from+int64(i))
		}
	}
}

func TestPublishesOneOutcomePerOffsetInOrder(t *testing.T) {
	g := newRig()
	c := new(commands)
	g.log(c.claim())
	for i := range 50 {
		g.log(c.append("s", fmt.Sprintf("w%d", i), fmt.Sprintf("e%d", i)))
	}
	g.log(bus.Record{Value: []byte("rubbish")}, c.delete("s", "d"), bus.Record{Key: []byte("s")})
	g.start(t)
	outs := persisted(t, g.await(t, registry.EventsPersisted, 54))
	inOrder(t, outs, 0)
	if len(g.await(t, registry.PersistenceWriteStarted, 50)) != 50 {
		t.Error("want one announcement per applied write")
	}
	deleted := new(eventsv1.StreamDeleted)
	if err := proto.Unmarshal(g.await(t, registry.StreamDeleted, 1)[0].Value, deleted); err != nil || deleted.Version != 49 || deleted.LogOffset != 52 || deleted.Tombstone {
		t.Errorf("delete announced as %v, %v", deleted, err)
	}
	if n := len(g.await(t, registry.PoisonRecord, 2)); n != 2 || outs[51].Kind != eventsv1.OutcomeKind_OUTCOME_KIND_SKIPPED {
		t.Errorf("%d poison records; outcome of rubbish: %v", n, outs[51])
	}
	p := g.replica.Progress()
	if p.LogOffset != 53 || !p.CaughtUp || !p.Leads || p.Term != 7 || p.OutcomeHash != outs[53].OutcomeHash || g.replica.Phase() != Serving {
		t.Errorf("progress: %v, %s", p, g.replica.Phase())
	}
	// A follower reports elsewhere, and announces nothing.
	g.leads.Store(false)
	g.log(c.append("s", "later", "later"))
	e := new(eventsv1.EventsReplicated)
	if err := proto.Unmarshal(g.await(t, registry.EventsReplicated, 1)[0].Value, e); err != nil || e.Outcome.LogOffset != 54 || e.ReplicatedTo[0] != "p-0" {
		t.Errorf("follower: %v, %v", e, err)
	}
	if len(g.await(t, registry.PersistenceWriteStarted, 50)) != 50 {
		t.Error("a follower has announced a write")
	}
}

// After a restart it publishes again from what was acknowledged, and nothing before.
func TestPublishesAgainFromTheAcknowledgedOffset(t *testing.T) {
	g := newRig()
	c := new(commands)
	g.log(c.claim())
	for i := range 20 {
		g.log(c.append("s", fmt.Sprintf("w%d", i), fmt.Sprintf("e%d", i)))
	}
	g.start(t)
	g.await(t, registry.EventsPersisted, 21)
	if err := g.stop(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	g.acknowledge(11)
	g.start(t)
	outs := persisted(t, g.await(t, registry.EventsPersisted, 21+9))
	inOrder(t, outs[21:], 12)
	g.log(c.append("s", "new", "new"))
	outs = persisted(t, g.await(t, registry.EventsPersisted, 21+10))
	inOrder(t, outs[21:], 12)
}

// When acknowledgements stand still for two seconds, outcomes are published again.
func TestPublishesAgainWhenAcknowledgementsStandStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig()
		c := new(commands)
		const n = mostSent + 2 // more than one call
		g.log(c.claim())
		for i := range n {
			g.log(c.append("s", fmt.Sprintf("w%d", i), fmt.Sprintf("e%d", i)))
		}
		g.acknowledge(0)
		began := time.Now()
		g.start(t)
		outs := persisted(t, g.await(t, registry.EventsPersisted, 2*n))
		inOrder(t, outs[:n], 1)
		inOrder(t, outs[n:], 1)
		if took := time.Since(began); took < stallAfter || took > 2*stallAfter {
			t.Errorf("published again after %v", took)
		}
		g.acknowledge(n)
		synctest.Wait()
		time.Sleep(time.Minute) // synctest's clock
		if got := len(g.await(t, registry.EventsPersisted, 2*n)); got != 2*n {
			t.Errorf("%d outcomes after all were acknowledged, want %d", got, 2*n)
		}
		_ = g.stop()
	})
}

// A send that fails in the middle goes on from the first unpublished outcome.
func TestGoesBackToTheFirstUnpublishedOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig()
		deletes := 0
		g.fail = func(topic string, _ int) int {
			switch topic {
			case registry.EventsPersisted:
				return 10 // of any call, then the broker is away
			case registry.StreamDeleted:
				if deletes++; deletes < 20 { // also long after its outcome went out
					return 0
				}
			}
			return -1
		}
		c := new(commands)
		g.log(c.claim())
		for i := range 100 {
			g.log(c.append("s", fmt.Sprintf("w%d", i), fmt.Sprintf("e%d", i)))
			if i == 50 {
				g.log(c.delete("s", "d"))
			}
		}
		g.start(t)
		g.await(t, registry.EventsPersisted, 102)
		g.acknowledge(101)
		inOrder(t, persisted(t, g.await(t, registry.EventsPersisted, 102)[:102]), 0)
		g.await(t, registry.StreamDeleted, 1)
		_ = g.stop()
	})
}

func TestRefusesALogThatDoesNotContinue(t *testing.T) {
	for name, c := range map[string]struct {
		change func(g *rig)
		reason string
	}{
		"truncated": {func(g *rig) {
			g.topics[registry.WriteCommandValidated] = g.topics[registry.WriteCommandValidated][:3]
		}, "the log ends at offset 2"},
		"swapped": {func(g *rig) {
			g.topics[registry.WriteCommandValidated][5] = (&commands{seq: 3}).append("other", "w", "e")
			g.topics[registry.WriteCommandValidated][5].Offset = 5
		}, "another record"},
		"retention": {func(g *rig) {
			g.oldest[registry.WriteCommandValidated] = 8
		}, "the log begins at offset 8"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig()
			cmds := new(commands)
			g.log(cmds.claim())
			for i := range 5 {
				g.log(cmds.append("s", fmt.Sprintf("w%d", i), fmt.Sprintf("e%d", i)))
			}
			g.start(t)
			g.await(t, registry.EventsPersisted, 6)
			_ = g.stop()
			c.change(g)
			g.start(t)
			g.diverges(t, c.reason)
		})
	}
}

// diverges waits for the replica to refuse its shard.
func (g *rig) diverges(t *testing.T, reason string) {
	t.Helper()
	err := g.replicaError(t)
	var diverged *DivergedError
	if !errors.As(err, &diverged) || !strings.Contains(err.Error(), reason) || diverged.Repair == "" {
		t.Fatalf("got %v, want a DivergedError with %q", err, reason)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	e, ok := g.control[len(g.control)-1].(*eventsv1.ReplicaDiverged)
	if !ok || e.Repair != diverged.Repair || e.LogOffset != diverged.Offset || e.Node != "p-0" {
		t.Fatalf("published %v", g.control)
	}
	if g.replica.Phase() != Diverged || g.replica.Progress().CaughtUp {
		t.Fatalf("phase %s, %v", g.replica.Phase(), g.replica.Progress())
	}
}

func (g *rig) replicaError(t *testing.T) error {
	t.Helper()
	for {
		if g.replica.Phase() == Diverged {
			return g.stop()
		}
		select {
		case <-t.Context().Done():
			t.Fatal("the replica goes on")
		default:
		}
	}
}

func TestAGapInTheTermHaltsAfterWhatCameBefore(t *testing.T) {
	g := newRig()
	c := new(commands)
	g.log(c.claim(), c.append("s", "w1", "e1"))
	c.seq++
	g.log(c.append("s", "w3", "e3"))
	g.start(t)
	g.diverges(t, "seq 3, want 2")
	if p := g.replica.Progress(); p.LogOffset != 1 {
		t.Fatalf("applied through %d, want 1", p.LogOffset)
	}
}

func TestALogThatIsCutWhileItIsReadIsNoticed(t *testing.T) {
	g := newRig()
	c := new(commands)
	g.log(c.claim(), c.append("s", "w1", "e1"), c.append("s", "w2", "e2"))
	g.start(t)
	g.await(t, registry.EventsPersisted, 3)
	g.memory.mu.Lock()
	g.topics[registry.WriteCommandValidated] = g.topics[registry.WriteCommandValidated][:1]
	g.write(registry.WriteCommandValidated, nil)
	g.memory.mu.Unlock()
	g.diverges(t, "the log was cut")
}

// A full disk stops applying, not reading; it goes on by itself.
func TestFullDiskWaitsForSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig()
		c := new(commands)
		g.log(c.claim())
		g.start(t)
		g.await(t, registry.EventsPersisted, 1)
		g.fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 20, TotalBytes: 1 << 40})
		g.log(c.append("s", "w", "e"))
		synctest.Wait()
		if g.replica.Phase() != FullDisk || g.replica.Progress().LogOffset != 0 {
			t.Fatalf("phase %s, %v", g.replica.Phase(), g.replica.Progress())
		}
		if page := g.ask(t, &eventsv1.HistoricalEventsRequested{RequestId: "r", Query: eventsv1.HistoricalEventsRequested_QUERY_ALL, AfterOffset: -1}); page.Error != "" {
			t.Fatalf("read on a full disk: %v", page)
		}
		g.fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 39, TotalBytes: 1 << 40})
		g.await(t, registry.EventsPersisted, 2)
		if g.replica.Phase() != Serving {
			t.Fatalf("phase %s", g.replica.Phase())
		}
		_ = g.stop()
	})
}

// ask sends a history request and waits for its answer.
func (g *rig) ask(t *testing.T, req *eventsv1.HistoricalEventsRequested) *eventsv1.HistoricalEventsLoaded {
	t.Helper()
	g.memory.mu.Lock()
	n := len(g.topics[registry.HistoricalEventsLoaded])
	g.memory.mu.Unlock()
	value, _ := proto.Marshal(req)
	g.put(registry.HistoricalEventsRequested, bus.Record{Value: value})
	page := new(eventsv1.HistoricalEventsLoaded)
	if err := proto.Unmarshal(g.await(t, registry.HistoricalEventsLoaded, n+1)[n].Value, page); err != nil {
		t.Fatal(err)
	}
	return page
}

func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig()
		c := new(commands)
		g.log(c.claim(), c.append("s", "w1", "e1"))
		g.start(t)
		g.await(t, registry.EventsPersisted, 2)
		synctest.Wait()

		stream := &eventsv1.HistoricalEventsRequested{RequestId: "r1", ReplyTo: "gw", Query: eventsv1.HistoricalEventsRequested_QUERY_STREAM, StreamId: "s", MinOffset: -1}
		page := g.ask(t, stream)
		if len(page.Events) != 1 || page.RequestId != "r1" || page.ReplyTo != "gw" || page.Replica != "p-0" || page.AppliedOffset != 1 {
			t.Fatalf("page: %v", page)
		}
		// It waits for the log offset that is asked for.
		answered := make(chan *eventsv1.HistoricalEventsLoaded, 1)
		stream.MinOffset, stream.RequestId = 2, "r2"
		go func() { answered <- g.ask(t, stream) }()
		synctest.Wait()
		select {
		case page := <-answered:
			t.Fatalf("answered before log offset 2 was applied: %v", page)
		default:
		}
		g.log(c.append("s", "w2", "e2"))
		if page = <-answered; len(page.Events) != 2 || page.AppliedOffset != 2 {
			t.Fatalf("page: %v", page)
		}
		// But not for ever.
		began := time.Now()
		stream.MinOffset, stream.DeadlineMs = 100, began.Add(time.Second).UnixMilli()
		if page = g.ask(t, stream); page.Error == "" || time.Since(began) > 2*time.Second {
			t.Fatalf("after %v: %v", time.Since(began), page)
		}
		stream.MinOffset, stream.DeadlineMs, stream.StreamId = -1, 0, ""
		if page = g.ask(t, stream); !strings.Contains(page.Error, "stream_id") {
			t.Fatalf("a bad question: %v", page)
		}
		_ = g.stop()
	})
}

func TestWhoAnswersHistory(t *testing.T) {
	h := &historyServer{node: "p-0", leads: func() (bool, int64) { return false, 0 }, alone: func() bool { return false }}
	ask := func(replica string) bool { return h.mine(&eventsv1.HistoricalEventsRequested{Replica: replica}) }
	if ask("p-1") || !ask("p-0") || ask("") {
		t.Error("a follower answers when it is named, and only then")
	}
	h.leads = func() (bool, int64) { return true, 1 }
	if ask("p-1") || !ask("p-0") || !ask("") {
		t.Error("the leader answers what names nobody")
	}
	h.leads, h.alone = func() (bool, int64) { return false, 0 }, func() bool { return true }
	if ask("p-1") || !ask("p-0") || !ask("") {
		t.Error("the only replica answers what names nobody")
	}
}

func TestTheNewestOwnersAcknowledgementCounts(t *testing.T) {
	a := NewAcknowledged(newMemory(), envelope{}, slog.New(slog.DiscardHandler))
	observe := func(term, offset int64) {
		value, _ := proto.Marshal(&eventsv1.ShardAcknowledged{Shard: 3, OwnerTerm: term, LogOffset: offset, Owner: "store-0"})
		a.observe(bus.Record{Value: value})
	}
	if a.Offset(3) != -1 {
		t.Error("nothing was acknowledged")
	}
	for _, c := range []struct{ term, offset, want int64 }{{5, 10, 10}, {5, 9, 10}, {5, 12, 12}, {4, 99, 12}, {7, 11, 11}} {
		if observe(c.term, c.offset); a.Offset(3) != c.want {
			t.Errorf("after (%d, %d): %d, want %d", c.term, c.offset, a.Offset(3), c.want)
		}
	}
	a.observe(bus.Record{Value: []byte("rubbish")})
	a.observe(bus.Record{})
}

// Records can be anything: decode must neither fail nor depend on chance.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("k"), (&commands{}).append("s", "w", "e").Value)
	f.Add([]byte(nil), []byte(nil))
	f.Add([]byte{}, []byte{0xff})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		one, two := decode(bus.Record{Offset: 5, Key: key, Value: value}), decode(bus.Record{Offset: 5, Key: key, Value: value})
		if one.RecordHash != two.RecordHash || one.Undecodable != two.Undecodable || !proto.Equal(one.Record, two.Record) {
			t.Fatalf("%v, then %v", one, two)
		}
		if (one.Record == nil) != (one.Undecodable != "") {
			t.Fatalf("record %v, undecodable %q", one.Record, one.Undecodable)
		}
		if one.RecordHash == decode(bus.Record{Offset: 5, Key: append([]byte{'x'}, key...), Value: value}).RecordHash {
			t.Fatal("the key does not change the hash")
		}
	})
}
