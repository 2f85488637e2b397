package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/gateway/core"
	"github.com/exesdb/exesdb/services/gateway/trace"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/shared/shard"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

const testShards = 2

// world is a broker, a backend, and a store that answers as the test says.
type world struct {
	t        *testing.T
	client   *bus.Client
	producer *bus.Producer
	options  Options
	backend  *Backend
	ctx      context.Context
}

func topic(event string) string { return registry.Topic("test", event) }

func record(event, key string, partition int32, msg proto.Message) (bus.Record, error) {
	value, err := proto.Marshal(msg)
	return bus.Record{Topic: topic(event), Partition: partition, Key: []byte(key), Value: value}, err
}

func newWorld(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(testShards,
		topic(registry.StreamWriteRequested), topic(registry.WriteAcknowledged), topic(registry.WriteRejected),
		topic(registry.HistoricalEventsRequested), topic(registry.HistoricalEventsLoaded)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	client, err := bus.Dial(ctx, bus.Config{Brokers: cluster.ListenAddrs(), RetryFor: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	w := &world{t: t, client: client, producer: bus.NewProducer(client), ctx: ctx}
	t.Cleanup(func() { _ = w.producer.Close() })
	w.options = Options{
		Producer: w.producer, OpenReader: FromEnd(client), Record: record, Topic: topic, Shards: testShards,
		Address: "gateway-0/1", ReplyPartition: 1, Replicas: func(int32) []string { return []string{"p-0", "p-1"} },
		Writes: 1000, Reads: 1000, HedgeAfter: time.Hour, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: prometheus.NewRegistry(),
	}
	for _, c := range change {
		c(&w.options)
	}
	w.backend = w.open(w.options)
	return w
}

// open starts one more gateway.
func (w *world) open(o Options) *Backend {
	w.t.Helper()
	b, err := Open(w.ctx, o)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.ctx)
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	return b
}

// serve gives every record of the event, of all shards, to handle, one after the other.
func (w *world) serve(event string, handle func(bus.Record)) {
	var turn sync.Mutex
	for in := range int32(testShards) {
		r, err := bus.NewReader(w.client, bus.ReaderOptions{Topic: topic(event), Partition: in, Offset: bus.OffsetOldest})
		if err != nil {
			w.t.Fatal(err)
		}
		ctx, stop := context.WithCancel(w.ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				records, err := r.Poll(ctx)
				if err != nil {
					return
				}
				for _, rec := range records {
					turn.Lock()
					handle(rec)
					turn.Unlock()
				}
			}
		}()
		w.t.Cleanup(func() {
			stop()
			<-ended
			_ = r.Close()
		})
	}
}

// publish appends an answer.
func (w *world) publish(event string, partition int32, msg proto.Message) {
	r, err := record(event, "", partition, msg)
	if err == nil {
		_, err = w.producer.Append(w.ctx, r.Topic, partition, []bus.Record{r})
	}
	if err != nil && w.ctx.Err() == nil {
		w.t.Errorf("publish %s: %v", event, err)
	}
}

// store acknowledges writes in log order, as the real one does.
type store struct {
	w        *world
	log      [testShards]int64
	last     [testShards]int64
	versions map[string]int64
	requests []*eventsv1.StreamWriteRequested
	headers  [][]bus.Header
}

func (w *world) store(publish func(s *store, ack *eventsv1.WriteAcknowledged)) *store {
	s := &store{w: w, versions: map[string]int64{}}
	for i := range s.last {
		s.last[i] = -1
	}
	w.serve(registry.StreamWriteRequested, func(r bus.Record) {
		req := &eventsv1.StreamWriteRequested{}
		if err := proto.Unmarshal(r.Value, req); err != nil {
			w.t.Error(err)
			return
		}
		s.requests, s.headers = append(s.requests, req), append(s.headers, r.Headers)
		s.versions[req.GetStreamId()] += int64(len(req.GetEvents()))
		at := s.log[r.Partition]
		s.log[r.Partition]++
		ack := &eventsv1.WriteAcknowledged{
			StreamId: req.GetStreamId(), WriteId: req.GetWriteId(), ReplyTo: req.GetReplyTo(), Shard: r.Partition, LogOffset: at,
			PreviousAcknowledgedOffset: s.last[r.Partition], NewVersion: s.versions[req.GetStreamId()] - 1, DuplicateOf: -1,
		}
		s.last[r.Partition] = at
		publish(s, ack)
	})
	return s
}

func acknowledge(s *store, ack *eventsv1.WriteAcknowledged) {
	s.w.publish(registry.WriteAcknowledged, ack.GetShard(), ack)
}

func write(stream, id string) *eventsv1.StreamWriteRequested {
	return &eventsv1.StreamWriteRequested{
		StreamId: stream, WriteId: id, Kind: eventsv1.CommandKind_COMMAND_KIND_APPEND, BodyHash: []byte(id + "........"),
		Events: []*eventsv1.NewEvent{{EventId: id, EventType: "T", Data: []byte("1")}},
	}
}

func TestWritesAreAnswered(t *testing.T) {
	w := newWorld(t)
	s := w.store(acknowledge)
	var clients sync.WaitGroup
	for c := range 50 {
		clients.Go(func() {
			stream := fmt.Sprintf("s%d", c)
			for i := range 4 {
				o, err := w.backend.Write(w.ctx, write(stream, fmt.Sprintf("%s-%d", stream, i)))
				if err != nil || o.Acknowledged.GetNewVersion() != int64(i) || o.Acknowledged.GetStreamId() != stream {
					t.Errorf("write %d to %s: %v, %v", i, stream, o, err)
				}
				in := shard.Of(stream, testShards)
				if floor := w.backend.Floor(in); floor < 0 {
					t.Errorf("no floor after an acknowledgement: %d", floor)
				}
			}
		})
	}
	clients.Wait()
	if len(s.requests) != 200 || w.backend.waiting.Len() != 0 {
		t.Fatalf("%d requests, %d still wait", len(s.requests), w.backend.waiting.Len())
	}
}

func TestStartsGoOutInOrder(t *testing.T) {
	w := newWorld(t)
	s := w.store(acknowledge)
	var waits []func() (core.Outcome, error)
	for i := range 500 {
		wait, err := w.backend.Start(w.ctx, write("s", fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, wait)
	}
	for i, wait := range waits {
		if o, err := wait(); err != nil || o.Acknowledged.GetNewVersion() != int64(i) {
			t.Fatalf("write %d: %v, %v", i, o, err)
		}
	}
	for i, r := range s.requests {
		if r.GetWriteId() != fmt.Sprint(i) {
			t.Fatalf("request %d is %s", i, r.GetWriteId())
		}
	}
}

// Every acknowledgement comes twice or more, and each client gets one answer.
func TestRepeatedAcknowledgements(t *testing.T) {
	w := newWorld(t)
	var all []*eventsv1.WriteAcknowledged
	w.store(func(s *store, ack *eventsv1.WriteAcknowledged) {
		all = append(all, ack)
		acknowledge(s, ack)
		for _, again := range all {
			acknowledge(s, again)
		}
	})
	for i := range 10 {
		if o, err := w.backend.Write(w.ctx, write("s", fmt.Sprint(i))); err != nil || o.Acknowledged.GetWriteId() != fmt.Sprint(i) {
			t.Fatalf("write %d: %v, %v", i, o, err)
		}
	}
	if n := testutil.ToFloat64(w.backend.counts.gaps); n != 0 {
		t.Fatalf("%v gaps are reported", n)
	}
}

// One answer is lost at first: the next one shows the gap, and it is found when the
// store, or its next owner, publishes it again.
func TestMissingAnswerIsReportedAndFound(t *testing.T) {
	for kind, publish := range map[string]func(*store, *eventsv1.WriteAcknowledged){
		"acknowledgement": acknowledge,
		"rejection":       reject,
	} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			var lost *eventsv1.WriteAcknowledged
			w.store(func(s *store, ack *eventsv1.WriteAcknowledged) {
				if ack.GetWriteId() == "lost" {
					lost = ack
					return
				}
				publish(s, ack)
				if ack.GetWriteId() == "after" { // a new owner begins where the old one had kept its place
					publish(s, lost)
					publish(s, ack)
				}
			})
			if _, err := w.backend.Write(w.ctx, write("s", "before")); err != nil {
				t.Fatal(err)
			}
			waitLost, err := w.backend.Start(w.ctx, write("s", "lost"))
			if err != nil {
				t.Fatal(err)
			}
			version := func(o core.Outcome) int64 { return o.Acknowledged.GetNewVersion() + o.Rejected.GetActualVersion() }
			if o, err := w.backend.Write(w.ctx, write("s", "after")); err != nil || version(o) != 2 {
				t.Fatalf("after the gap: %v, %v", o, err)
			}
			if o, err := waitLost(); err != nil || version(o) != 1 {
				t.Fatalf("in the gap: %v, %v", o, err)
			}
			if n := testutil.ToFloat64(w.backend.counts.gaps); n != 1 {
				t.Fatalf("%v gaps are reported, want 1", n)
			}
		})
	}
}

// reject answers with a rejection at the place of the acknowledgement.
func reject(s *store, ack *eventsv1.WriteAcknowledged) {
	s.w.publish(registry.WriteRejected, ack.GetShard(), &eventsv1.WriteRejected{
		WriteId: ack.GetWriteId(), ReplyTo: ack.GetReplyTo(), Reason: eventsv1.RejectReason_REJECT_REASON_WRONG_EXPECTED_VERSION,
		ActualVersion: ack.GetNewVersion(), LogOffset: ack.GetLogOffset(), PreviousRejectedOffset: ack.GetPreviousAcknowledgedOffset(),
	})
}

func TestRejectionsAreAnswered(t *testing.T) {
	w := newWorld(t)
	w.store(func(s *store, ack *eventsv1.WriteAcknowledged) {
		s.w.publish(registry.WriteRejected, ack.GetShard(), &eventsv1.WriteRejected{
			WriteId: ack.GetWriteId(), ReplyTo: ack.GetReplyTo(), Reason: eventsv1.RejectReason_REJECT_REASON_WRONG_EXPECTED_VERSION, ActualVersion: 7, LogOffset: -1,
		})
	})
	if o, err := w.backend.Write(w.ctx, write("s", "w")); err != nil || o.Rejected.GetActualVersion() != 7 {
		t.Fatalf("%v, %v", o, err)
	}
}

// Two retries of one write both get its answer; one with another body does not.
func TestRetriesShareAnAnswerAndReusedKeysDoNot(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	requested := make(chan struct{}, 3)
	first := true
	free := sync.OnceFunc(func() { close(release) })
	var answering sync.WaitGroup
	defer answering.Wait()
	defer free()
	w.store(func(s *store, ack *eventsv1.WriteAcknowledged) {
		requested <- struct{}{}
		if !first {
			return // the later ones are never answered on their own
		}
		first = false
		answering.Go(func() {
			<-release
			acknowledge(s, ack)
		})
	})
	one, err := w.backend.Start(w.ctx, write("s", "w"))
	if err != nil {
		t.Fatal(err)
	}
	<-requested
	two, err := w.backend.Start(w.ctx, write("s", "w"))
	if err != nil {
		t.Fatal(err)
	}
	other := write("s", "w")
	other.BodyHash = []byte("another body")
	ctx, cancel := context.WithCancel(w.ctx)
	three, err := w.backend.Start(ctx, other)
	if err != nil {
		t.Fatal(err)
	}
	<-requested
	<-requested
	free()
	for _, wait := range []func() (core.Outcome, error){one, two} {
		if o, err := wait(); err != nil || o.Acknowledged.GetWriteId() != "w" {
			t.Fatalf("%v, %v", o, err)
		}
	}
	cancel()
	if o, err := three(); !errors.Is(err, core.ErrNoAnswer) {
		t.Fatalf("another body got %v, %v", o, err)
	}
	if n := w.backend.waiting.Len(); n != 0 {
		t.Fatalf("%d still wait", n)
	}
}

// Answers to other gateways, and to a former start of this one, reach no one here.
func TestAnswersOfOthers(t *testing.T) {
	w := newWorld(t)
	o := w.options
	o.Address, o.Metrics = "gateway-1/1", prometheus.NewRegistry()
	other := w.open(o)
	w.store(func(s *store, ack *eventsv1.WriteAcknowledged) {
		former := proto.CloneOf(ack)
		former.ReplyTo, former.NewVersion = "gateway-0/0#"+ack.GetReplyTo(), 99
		former.PreviousAcknowledgedOffset = ack.GetPreviousAcknowledgedOffset()
		acknowledge(s, former)
		ack.LogOffset, ack.PreviousAcknowledgedOffset = ack.GetLogOffset()+1, ack.GetLogOffset()
		s.log[ack.GetShard()]++
		s.last[ack.GetShard()] = ack.GetLogOffset()
		acknowledge(s, ack)
	})
	for i, b := range []*Backend{w.backend, other, w.backend} {
		if o, err := b.Write(w.ctx, write("s", fmt.Sprint(i))); err != nil || o.Acknowledged.GetNewVersion() != int64(i) {
			t.Fatalf("gateway of write %d: %v, %v", i, o, err)
		}
	}
}

func TestADeadlineLeavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	answered := make(chan *eventsv1.WriteAcknowledged, 1)
	w.store(func(_ *store, ack *eventsv1.WriteAcknowledged) { answered <- ack })
	ctx, cancel := context.WithCancel(w.ctx)
	wait, err := w.backend.Start(ctx, write("s", "w"))
	if err != nil {
		t.Fatal(err)
	}
	ack := <-answered
	cancel()
	if _, err := wait(); !errors.Is(err, core.ErrNoAnswer) {
		t.Fatalf("got %v", err)
	}
	if n := w.backend.waiting.Len(); n != 0 {
		t.Fatalf("%d still wait", n)
	}
	changed := w.backend.Changed()
	w.publish(registry.WriteAcknowledged, ack.GetShard(), ack) // the late answer finds no one, and raises the floor
	<-changed
	if w.backend.Floor(ack.GetShard()) != 0 {
		t.Fatalf("floor %d", w.backend.Floor(ack.GetShard()))
	}
}

func TestTheTableIsBounded(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Writes, o.Reads = 2, 1 })
	for i := range 2 {
		if _, err := w.backend.Start(w.ctx, write("s", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.backend.Start(w.ctx, write("s", "over")); !errors.Is(err, core.ErrFull) || core.Bound(err) != 2 {
		t.Fatalf("over the bound: %v", err)
	}
	asked := make(chan struct{}, 1)
	w.serve(registry.HistoricalEventsRequested, func(bus.Record) { asked <- struct{}{} })
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := w.backend.Read(ctx, &eventsv1.HistoricalEventsRequested{})
		ended <- err
	}()
	<-asked
	if _, err := w.backend.Read(w.ctx, &eventsv1.HistoricalEventsRequested{}); !errors.Is(err, core.ErrFull) {
		t.Fatalf("over the bound: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, core.ErrNoAnswer) {
		t.Fatalf("a read that ends: %v", err)
	}
}

// faulty is a producer that fails as the test says.
type faulty struct {
	Producer
	mu  sync.Mutex
	err error
}

func (f *faulty) Append(ctx context.Context, topic string, partition int32, records []bus.Record) (int64, error) {
	f.mu.Lock()
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return -1, err
	}
	return f.Producer.Append(ctx, topic, partition, records)
}

func (f *faulty) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func TestProduceErrors(t *testing.T) {
	var producer *faulty
	w := newWorld(t, func(o *Options) {
		producer = &faulty{Producer: o.Producer}
		o.Producer = producer
	})
	w.store(acknowledge)
	producer.fail(errors.New("no leader"))
	if _, err := w.backend.Write(w.ctx, write("s", "lost")); !errors.Is(err, core.ErrNotProduced) || !strings.Contains(err.Error(), "no leader") {
		t.Fatalf("not produced: %v", err)
	}
	if _, err := w.backend.Read(w.ctx, &eventsv1.HistoricalEventsRequested{}); !errors.Is(err, core.ErrNotProduced) {
		t.Fatalf("read not produced: %v", err)
	}
	// Unknown: the answer decides, else the deadline.
	producer.fail(fmt.Errorf("timeout: %w", bus.ErrOutcomeUnknown))
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := w.backend.Write(ctx, write("s", "unknown")); !errors.Is(err, core.ErrNoAnswer) {
		t.Fatalf("unknown: %v", err)
	}
	wait, err := w.backend.Start(w.ctx, write("s", "unknown"))
	if err != nil {
		t.Fatal(err)
	}
	w.publish(registry.WriteAcknowledged, shard.Of("s", testShards), &eventsv1.WriteAcknowledged{
		WriteId: "unknown", ReplyTo: core.ReplyTo("gateway-0/1", write("s", "unknown").GetBodyHash()), PreviousAcknowledgedOffset: -1,
	})
	if o, err := wait(); err != nil || o.Acknowledged == nil {
		t.Fatalf("unknown, then answered: %v, %v", o, err)
	}
	producer.fail(nil)
	if n := w.backend.waiting.Len(); n != 0 {
		t.Fatalf("%d still wait", n)
	}
}

func TestStoppedBackendTakesNothing(t *testing.T) {
	w := newWorld(t)
	o := w.options
	o.Metrics = prometheus.NewRegistry()
	b, err := Open(w.ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.ctx)
	stop()
	if err := b.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for range laneDepth + 1 { // the queue may take some, that no one sends
		cctx, cancel := context.WithCancel(w.ctx)
		wait, err := b.Start(cctx, write("s", "w"))
		cancel()
		if err == nil {
			_, err = wait()
		}
		if !errors.Is(err, core.ErrNotProduced) && !errors.Is(err, core.ErrNoAnswer) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestTraceGoesIntoTheHeaders(t *testing.T) {
	w := newWorld(t)
	s := w.store(acknowledge)
	ctx := trace.With(w.ctx, trace.Request{ID: "r-1", Parent: "00-1-2-01"})
	if _, err := w.backend.Write(ctx, write("s", "w")); err != nil {
		t.Fatal(err)
	}
	r := bus.Record{Headers: s.headers[0]}
	if r.Header(bus.HeaderCorrelationID) != "r-1" || r.Header(bus.HeaderTraceParent) != "00-1-2-01" {
		t.Fatalf("headers %v", s.headers[0])
	}
}

// replicas answers reads; answer may return nil to stay silent.
func (w *world) replicas(answer func(q *eventsv1.HistoricalEventsRequested) *eventsv1.HistoricalEventsLoaded) {
	w.serve(registry.HistoricalEventsRequested, func(r bus.Record) {
		q := &eventsv1.HistoricalEventsRequested{}
		if err := proto.Unmarshal(r.Value, q); err != nil {
			w.t.Error(err)
			return
		}
		if page := answer(q); page != nil {
			page.RequestId, page.ReplyTo = q.GetRequestId(), q.GetReplyTo()
			w.publish(registry.HistoricalEventsLoaded, q.GetReplyPartition(), page)
		}
	})
}

func TestReadsAskForTheFloor(t *testing.T) {
	w := newWorld(t)
	w.store(acknowledge)
	asked := make(chan *eventsv1.HistoricalEventsRequested, 10)
	w.replicas(func(q *eventsv1.HistoricalEventsRequested) *eventsv1.HistoricalEventsLoaded {
		asked <- q
		return &eventsv1.HistoricalEventsLoaded{Shard: q.GetShard(), AppliedOffset: 41, Events: []*eventsv1.RecordedEvent{{StreamId: "s"}}}
	})
	in := shard.Of("s", testShards)
	read := func(least int64) *eventsv1.HistoricalEventsRequested {
		page, err := w.backend.Read(w.ctx, &eventsv1.HistoricalEventsRequested{StreamId: "s", Shard: in, MinOffset: least})
		if err != nil || len(page.GetEvents()) != 1 {
			t.Fatalf("read: %v, %v", page, err)
		}
		return <-asked
	}
	for i := range 3 {
		if _, err := w.backend.Write(w.ctx, write("s", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	changed := w.backend.Changed()
	if q := read(-1); q.GetMinOffset() < 0 || q.GetMinOffset() > 2 || q.GetReplyPartition() != 1 || q.GetReplica() != "" {
		t.Fatalf("asked for %v", q)
	}
	<-changed
	if q := read(-1); q.GetMinOffset() != 41 {
		t.Fatalf("after a page through 41 asked for %d", q.GetMinOffset())
	}
	if q := read(100); q.GetMinOffset() != 100 {
		t.Fatalf("asked for %d, want the client's 100", q.GetMinOffset())
	}
}

func TestReadsAreHedged(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.HedgeAfter = 5 * time.Millisecond })
	var mu sync.Mutex
	var asked []string
	w.replicas(func(q *eventsv1.HistoricalEventsRequested) *eventsv1.HistoricalEventsLoaded {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, q.GetReplica())
		if q.GetReplica() != "p-1" {
			return nil
		}
		return &eventsv1.HistoricalEventsLoaded{Replica: q.GetReplica()}
	})
	page, err := w.backend.Read(w.ctx, &eventsv1.HistoricalEventsRequested{})
	if err != nil || page.GetReplica() != "p-1" {
		t.Fatalf("%v, %v", page, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if asked[0] != "" || asked[1] != "p-1" {
		t.Fatalf("asked %q", asked)
	}
}

// A replica that declines is replaced at once; when all do, the last word is theirs.
func TestReadsGoOnWhenAReplicaDeclines(t *testing.T) {
	w := newWorld(t)
	good := ""
	w.replicas(func(q *eventsv1.HistoricalEventsRequested) *eventsv1.HistoricalEventsLoaded {
		if q.GetReplica() == good && good != "" {
			return &eventsv1.HistoricalEventsLoaded{Replica: good}
		}
		return &eventsv1.HistoricalEventsLoaded{Error: "too far behind"}
	})
	if page, err := w.backend.Read(w.ctx, &eventsv1.HistoricalEventsRequested{}); err != nil || page.GetError() != "too far behind" {
		t.Fatalf("%v, %v", page, err)
	}
	good = "p-1"
	if page, err := w.backend.Read(w.ctx, &eventsv1.HistoricalEventsRequested{}); err != nil || page.GetReplica() != "p-1" {
		t.Fatalf("%v, %v", page, err)
	}
}

func TestUndecodableAnswersArePassedOver(t *testing.T) {
	w := newWorld(t)
	in := shard.Of("s", testShards)
	for _, event := range []string{registry.WriteAcknowledged, registry.WriteRejected} {
		if _, err := w.producer.Append(w.ctx, topic(event), in, []bus.Record{{Value: []byte("\xff\xff")}}); err != nil {
			t.Fatal(err)
		}
	}
	w.store(acknowledge)
	if _, err := w.backend.Write(w.ctx, write("s", "w")); err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(w.backend.counts.undecodable.WithLabelValues(registry.WriteAcknowledged)); n != 1 {
		t.Fatalf("%v undecodable answers are counted", n)
	}
}

func TestRequestIDIsFoundWithoutDecoding(t *testing.T) {
	page := &eventsv1.HistoricalEventsLoaded{Events: []*eventsv1.RecordedEvent{{Data: make([]byte, 1000)}}, HasMore: true, RequestId: "r/1", Error: "x"}
	encoded, err := proto.Marshal(page)
	if err != nil {
		t.Fatal(err)
	}
	if got := requestID(encoded); got != "r/1" {
		t.Fatalf("got %q", got)
	}
	for n := range encoded {
		_ = requestID(encoded[:n]) // must not panic
	}
	if got := requestID(nil); got != "" {
		t.Fatalf("got %q", got)
	}
}
