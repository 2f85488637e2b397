package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/services/gateway/core"
	"github.com/exesdb/exesdb/shared/position"
	"github.com/exesdb/exesdb/shared/shard"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// memory is an event store in memory that keeps the rules of the real one.
type memory struct {
	mu      sync.Mutex
	logs    [][]*eventsv1.RecordedEvent // per shard
	next    []int64                     // log offset, per shard
	heads   map[string]*eventsv1.StreamInfo
	writes  map[string]outcomeOf
	clock   int64
	changed chan struct{}
	// fail is the error of every call, if there is one; reject the rejection of every write.
	fail   error
	reject *eventsv1.WriteRejected
	// hold, if set, holds up the answer to every write until it is closed.
	hold    chan struct{}
	started chan struct{} // gets a value for each held write
	seen    []*eventsv1.HistoricalEventsRequested
}

type outcomeOf struct {
	hash    []byte
	outcome core.Outcome
}

func newMemory(shards int32) *memory {
	return &memory{
		logs: make([][]*eventsv1.RecordedEvent, shards), next: make([]int64, shards), heads: map[string]*eventsv1.StreamInfo{},
		writes: map[string]outcomeOf{}, changed: make(chan struct{}), started: make(chan struct{}, 4096), clock: 1700000000000,
	}
}

func (m *memory) Start(ctx context.Context, w *eventsv1.StreamWriteRequested) (func() (core.Outcome, error), error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	if m.reject != nil {
		r := proto.CloneOf(m.reject)
		r.StreamId, r.WriteId = w.GetStreamId(), w.GetWriteId()
		return func() (core.Outcome, error) { return core.Outcome{Rejected: r}, nil }, nil
	}
	o := m.apply(w)
	hold := m.hold
	if hold != nil {
		m.started <- struct{}{}
	}
	return func() (core.Outcome, error) {
		if hold != nil {
			select {
			case <-hold:
			case <-ctx.Done():
				return core.Outcome{}, fmt.Errorf("%w: %w", core.ErrNoAnswer, ctx.Err())
			}
		}
		return o, nil
	}, nil
}

func (m *memory) apply(w *eventsv1.StreamWriteRequested) core.Outcome {
	in := shard.Of(w.GetStreamId(), int32(len(m.logs)))
	at := m.next[in]
	m.next[in]++
	m.clock++
	defer func() {
		close(m.changed)
		m.changed = make(chan struct{})
	}()
	ack := &eventsv1.WriteAcknowledged{StreamId: w.GetStreamId(), WriteId: w.GetWriteId(), LogOffset: at, Shard: in, DuplicateOf: -1, Command: w.GetKind()}
	head := m.heads[w.GetStreamId()]
	if head == nil {
		head = &eventsv1.StreamInfo{StreamId: w.GetStreamId(), Version: -1}
	}
	visible := head.GetVersion()
	if head.GetState() != eventsv1.StreamState_STREAM_STATE_LIVE {
		visible = -1
	}
	reject := func(reason eventsv1.RejectReason) core.Outcome {
		return core.Outcome{Rejected: &eventsv1.WriteRejected{
			StreamId: w.GetStreamId(), WriteId: w.GetWriteId(), Reason: reason, ExpectedVersion: w.GetExpectedVersion(), ActualVersion: visible, LogOffset: at,
		}}
	}
	if old, known := m.writes[w.GetWriteId()]; known {
		if !bytes.Equal(old.hash, w.GetBodyHash()) {
			return reject(eventsv1.RejectReason_REJECT_REASON_KEY_REUSED)
		}
		if old.outcome.Rejected != nil {
			return old.outcome
		}
		again := proto.CloneOf(old.outcome.Acknowledged)
		again.DuplicateOf, again.LogOffset = again.GetLogOffset(), at
		return core.Outcome{Acknowledged: again}
	}
	remember := func(o core.Outcome) core.Outcome {
		m.writes[w.GetWriteId()] = outcomeOf{w.GetBodyHash(), o}
		return o
	}
	if head.GetState() == eventsv1.StreamState_STREAM_STATE_TOMBSTONED {
		return remember(reject(eventsv1.RejectReason_REJECT_REASON_STREAM_TOMBSTONED))
	}
	switch e := w.GetExpectedVersion(); {
	case e == core.Any, e == core.NoStream && visible < 0, e == core.StreamExists && visible >= 0, e >= 0 && e == head.GetVersion():
	default:
		return remember(reject(eventsv1.RejectReason_REJECT_REASON_WRONG_EXPECTED_VERSION))
	}
	switch w.GetKind() {
	case eventsv1.CommandKind_COMMAND_KIND_APPEND:
		head.State = eventsv1.StreamState_STREAM_STATE_LIVE
		ack.FirstVersion = head.GetVersion() + 1
		for i, e := range w.GetEvents() {
			head.Version++
			m.logs[in] = append(m.logs[in], &eventsv1.RecordedEvent{
				EventId: e.GetEventId(), EventType: e.GetEventType(), StreamId: w.GetStreamId(), Version: head.GetVersion(), Data: e.GetData(), Binary: e.GetBinary(),
				Metadata: e.GetMetadata(), Tags: e.GetTags(), CreatedAtMs: m.clock, Shard: in, LogOffset: at, Index: int32(i),
			})
			ack.EventIds = append(ack.EventIds, e.GetEventId())
		}
	default:
		if visible < 0 && w.GetKind() == eventsv1.CommandKind_COMMAND_KIND_SOFT_DELETE {
			return remember(reject(eventsv1.RejectReason_REJECT_REASON_STREAM_NOT_FOUND))
		}
		head.State = eventsv1.StreamState_STREAM_STATE_DELETED
		if w.GetKind() == eventsv1.CommandKind_COMMAND_KIND_TOMBSTONE {
			head.State = eventsv1.StreamState_STREAM_STATE_TOMBSTONED
		}
		head.FirstVersion = head.GetVersion() + 1
	}
	head.Count = head.GetVersion() - head.GetFirstVersion() + 1
	ack.NewVersion = head.GetVersion()
	m.heads[w.GetStreamId()] = head
	return remember(core.Outcome{Acknowledged: ack})
}

func (m *memory) Read(_ context.Context, q *eventsv1.HistoricalEventsRequested) (*eventsv1.HistoricalEventsLoaded, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = append(m.seen, proto.CloneOf(q))
	if m.fail != nil {
		return nil, m.fail
	}
	page := &eventsv1.HistoricalEventsLoaded{Shard: q.GetShard(), AppliedOffset: m.next[q.GetShard()] - 1, NextOffset: q.GetAfterOffset(), NextIndex: q.GetAfterIndex()}
	head := m.heads[q.GetStreamId()]
	if head == nil {
		head = &eventsv1.StreamInfo{StreamId: q.GetStreamId(), Version: -1}
	}
	size := int64(0)
	add := func(e *eventsv1.RecordedEvent) bool {
		size += int64(len(e.GetData()))
		if len(page.Events) == int(q.GetLimit()) || size > q.GetMaxBytes() && len(page.Events) > 0 {
			page.HasMore = true
			return false
		}
		page.Events = append(page.Events, e)
		return true
	}
	switch q.GetQuery() {
	case eventsv1.HistoricalEventsRequested_QUERY_HEAD:
		page.Stream = proto.CloneOf(head)
	case eventsv1.HistoricalEventsRequested_QUERY_STREAM:
		page.Stream = proto.CloneOf(head)
		page.NextVersion = q.GetFromVersion()
		log := slices.Clone(m.logs[q.GetShard()])
		if q.GetBackward() {
			slices.Reverse(log)
		}
		for _, e := range log {
			wanted := e.GetVersion() >= q.GetFromVersion()
			if q.GetBackward() {
				wanted = e.GetVersion() <= q.GetFromVersion()
			}
			if e.GetStreamId() == q.GetStreamId() && wanted && e.GetVersion() >= head.GetFirstVersion() && !add(e) {
				break
			}
		}
	case eventsv1.HistoricalEventsRequested_QUERY_ALL:
		after := position.Position{Shard: q.GetShard(), Offset: q.GetAfterOffset(), Index: q.GetAfterIndex()}
		for _, e := range m.logs[q.GetShard()] {
			s := q.GetSelector()
			if core.PositionOf(e).Compare(after) <= 0 || e.GetVersion() < m.heads[e.GetStreamId()].GetFirstVersion() ||
				!strings.HasPrefix(e.GetStreamId(), s.GetStreamPrefix()) || !core.Selects(e, s.GetEventTypes(), s.GetTagsAll()) {
				continue
			}
			if !add(e) {
				break
			}
			page.NextOffset, page.NextIndex = e.GetLogOffset(), e.GetIndex()
		}
	case eventsv1.HistoricalEventsRequested_QUERY_STREAMS:
		var ids []string
		for id, h := range m.heads {
			if shard.Of(id, int32(len(m.logs))) == q.GetShard() && h.GetState() == eventsv1.StreamState_STREAM_STATE_LIVE && id > q.GetAfterStream() && strings.HasPrefix(id, q.GetSelector().GetStreamPrefix()) {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		for _, id := range ids {
			if len(page.Streams) == int(q.GetLimit()) {
				page.HasMore = true
				break
			}
			page.Streams = append(page.Streams, proto.CloneOf(m.heads[id]))
			page.NextStream = id
		}
	}
	return page, nil
}

func (m *memory) Floor(in int32) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.next[in] - 1
}

func (m *memory) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// gate is open unless something is missing.
type gate struct {
	mu      sync.Mutex
	missing []string
}

func (g *gate) Ready() (bool, []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.missing) == 0, g.missing
}

func (g *gate) Readable() bool { ok, _ := g.Ready(); return ok }

func (g *gate) System() *apiv1.GetSystemResponse {
	ok, missing := g.Ready()
	return &apiv1.GetSystemResponse{
		StoreId: "test", Shards: 1, Ready: ok, Missing: missing, Version: "v1",
		Nodes:   []*apiv1.Node{{Node: "store-0", System: "store", Ready: true, Shards: []*apiv1.NodeShard{{LogOffset: 1 << 60, CaughtUp: true}}}},
		Leaders: []*apiv1.Leader{{Role: "store", Node: "store-0", Term: 5}},
	}
}

// edge is the whole edge over real sockets.
type edge struct {
	t      testing.TB
	url    string
	client apiv1.EventStoreClient
	conn   *grpc.ClientConn
	memory *memory
	gate   *gate
	svc    *Service
}

func newEdge(t testing.TB, shards int32, change ...func(*Options)) *edge {
	t.Helper()
	e := &edge{t: t, memory: newMemory(shards), gate: &gate{}}
	o := Options{
		Backend: e.memory, Gate: e.gate, System: e.gate, Shards: shards, Limits: core.DefaultLimits(), BodyBytes: 8 << 20,
		WriteTimeout: 20 * time.Second, ReadTimeout: 20 * time.Second, Heartbeat: time.Hour, Log: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&o)
	}
	e.svc = NewService(o)
	handler, err := NewHTTP(e.svc, []byte(`{"openapi":"3.0.0"}`))
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	e.url = web.URL
	server := NewGRPC(e.svc)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	e.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.conn.Close() })
	e.client = apiv1.NewEventStoreClient(e.conn)
	return e
}

// do sends a request; headers are "Name: value".
func (e *edge) do(method, path, body string, headers ...string) (*http.Response, string) {
	e.t.Helper()
	req, err := http.NewRequest(method, e.url+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return res, string(out)
}

// append appends n events and fails the test when it does not work.
func (e *edge) append(stream string, n int) string {
	e.t.Helper()
	events := make([]string, n)
	for i := range events {
		events[i] = fmt.Sprintf(`{"event_type":"T%d","data":{"i":%d},"tags":["t%d"]}`, i%2, i, i%3)
	}
	res, body := e.do("POST", "/v1/streams/"+stream+"/events", `{"events":[`+strings.Join(events, ",")+`]}`)
	if res.StatusCode != 200 {
		e.t.Fatalf("append: %d %s", res.StatusCode, body)
	}
	return body
}
