package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/services/gateway/core"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

func readOf(stream string) *apiv1.ReadStreamRequest {
	return &apiv1.ReadStreamRequest{StreamId: stream}
}

func appendOf(stream string, expected int64, n int) *apiv1.AppendRequest {
	req := &apiv1.AppendRequest{StreamId: stream, ExpectedVersion: &expected}
	for i := range n {
		req.Events = append(req.Events, &apiv1.ProposedEvent{EventType: "T", Data: fmt.Appendf(nil, "%d", i)})
	}
	return req
}

func TestGRPCErrorsAreTyped(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name  string
		setup func(*edge)
		call  func(apiv1.EventStoreClient) error
		code  codes.Code
		kind  string
	}{
		{"malformed", nil, func(c apiv1.EventStoreClient) error { _, err := c.Append(ctx, &apiv1.AppendRequest{}); return err }, codes.InvalidArgument, core.TypeMalformed},
		{"too large", nil, func(c apiv1.EventStoreClient) error { _, err := c.Append(ctx, appendOf("s", -2, 1001)); return err }, codes.InvalidArgument, core.TypeTooLarge},
		{"not found", nil, func(c apiv1.EventStoreClient) error { _, err := c.ReadStream(ctx, readOf("s")); return err }, codes.NotFound, core.TypeStreamNotFound},
		{"wrong version", nil, func(c apiv1.EventStoreClient) error { _, err := c.Append(ctx, appendOf("s", 4, 1)); return err }, codes.FailedPrecondition, core.TypeWrongVersion},
		{"key reused", func(e *edge) {
			req := appendOf("s", -2, 1)
			req.IdempotencyKey = "k"
			if _, err := e.client.Append(ctx, req); err != nil {
				e.t.Fatal(err)
			}
		}, func(c apiv1.EventStoreClient) error {
			req := appendOf("s", -2, 2)
			req.IdempotencyKey = "k"
			_, err := c.Append(ctx, req)
			return err
		}, codes.AlreadyExists, core.TypeKeyReused},
		{"busy", func(e *edge) { e.memory.fail = core.Full(3) }, func(c apiv1.EventStoreClient) error { _, err := c.Append(ctx, appendOf("s", -2, 1)); return err }, codes.ResourceExhausted, core.TypeBusy},
		{"not ready", func(e *edge) { e.gate.missing = []string{"x"} }, func(c apiv1.EventStoreClient) error {
			_, err := c.ListStreams(ctx, &apiv1.ListStreamsRequest{})
			return err
		}, codes.Unavailable, core.TypeNotReady},
		{"unknown outcome", func(e *edge) { e.memory.fail = core.ErrNoAnswer }, func(c apiv1.EventStoreClient) error { _, err := c.Append(ctx, appendOf("s", -2, 1)); return err }, codes.DeadlineExceeded, core.TypeOutcomeUnknown},
		{"fault", func(e *edge) { e.memory.fail = errors.New("x") }, func(c apiv1.EventStoreClient) error { _, err := c.ReadAll(ctx, &apiv1.ReadAllRequest{}); return err }, codes.Internal, core.TypeInternal},
		{"panic", func(e *edge) { e.svc.Backend = nil }, func(c apiv1.EventStoreClient) error { _, err := c.ReadAll(ctx, &apiv1.ReadAllRequest{}); return err }, codes.Internal, core.TypeInternal},
		{"stream", func(e *edge) { e.gate.missing = []string{"x"} }, func(c apiv1.EventStoreClient) error {
			s, err := c.Subscribe(ctx, &apiv1.SubscribeRequest{})
			if err != nil {
				return err
			}
			_, err = s.Recv()
			return err
		}, codes.Unavailable, core.TypeNotReady},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEdge(t, 1)
			if c.setup != nil {
				c.setup(e)
			}
			st := status.Convert(c.call(e.client))
			if st.Code() != c.code || len(st.Details()) != 1 {
				t.Fatalf("got %v %v, want %v", st.Code(), st.Details(), c.code)
			}
			if p, ok := st.Details()[0].(*apiv1.Problem); !ok || p.GetType() != c.kind || p.GetDetail() != st.Message() {
				t.Fatalf("detail %v", st.Details()[0])
			}
		})
	}
}

func TestGRPCHealthAndToken(t *testing.T) {
	e := newEdge(t, 1, func(o *Options) { o.Token = "s3cret" })
	ctx := context.Background()
	h := grpc_health_v1.NewHealthClient(e.conn)
	if res, err := h.Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil || res.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("health: %v, %v", res, err)
	}
	e.gate.mu.Lock()
	e.gate.missing = []string{"store"}
	e.gate.mu.Unlock()
	if res, err := h.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "exesdb.api.v1.EventStore"}); err != nil || res.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Fatalf("health: %v, %v", res, err)
	}
	if _, err := e.client.GetSystem(ctx, &apiv1.GetSystemRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Fatalf("without a token: %v", err)
	}
	if _, err := e.client.GetSystem(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer no"), &apiv1.GetSystemRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Fatalf("with a wrong token: %v", err)
	}
	if res, err := e.client.GetSystem(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer s3cret"), &apiv1.GetSystemRequest{}); err != nil || res.GetReady() {
		t.Fatalf("with the token: %v, %v", res, err)
	}
}

// Appends of one connection are applied in their order, with many in flight.
func TestAppendStreamKeepsOrder(t *testing.T) {
	e := newEdge(t, 1)
	stream, err := e.client.AppendStream(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	const n = 3 * appendWindow
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			if err := stream.Send(&apiv1.AppendStreamRequest{Correlation: uint64(i), Append: appendOf("s", int64(i)-1, 1)}); err != nil {
				sent <- err
				return
			}
		}
		sent <- errors.Join(stream.Send(&apiv1.AppendStreamRequest{Correlation: n, Append: appendOf("s", 5, 1)}),
			stream.Send(&apiv1.AppendStreamRequest{Correlation: n + 1}), stream.CloseSend())
	}()
	answers := map[uint64]*apiv1.AppendStreamResponse{}
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if answers[res.GetCorrelation()] != nil {
			t.Fatalf("two answers to %d", res.GetCorrelation())
		}
		answers[res.GetCorrelation()] = res
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	for i := range uint64(n) {
		if got := answers[i].GetOk(); got.GetNewVersion() != int64(i) {
			t.Fatalf("answer %d: %v", i, answers[i])
		}
	}
	if p := answers[n].GetProblem(); p.GetType() != core.TypeWrongVersion || p.GetActualVersion() != n-1 {
		t.Fatalf("the last answer: %v", answers[n])
	}
	if p := answers[n+1].GetProblem(); p.GetType() != core.TypeMalformed {
		t.Fatalf("an append that is missing: %v", answers[n+1])
	}
}

func TestAppendStreamEndsWithItsClient(t *testing.T) {
	e := newEdge(t, 1)
	e.memory.hold = make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := e.client.AppendStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&apiv1.AppendStreamRequest{Correlation: 1, Append: appendOf("s", -2, 1)}); err != nil {
		t.Fatal(err)
	}
	<-e.memory.started
	cancel()
	drain, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	if err := e.svc.Drain(drain); err != nil {
		t.Fatalf("what a client left stays in flight: %v", err)
	}
}

// frames reads a subscription over gRPC.
func frames(ctx context.Context, t *testing.T, e *edge, req *apiv1.SubscribeRequest) func() *apiv1.SubscribeResponse {
	t.Helper()
	s, err := e.client.Subscribe(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	return func() *apiv1.SubscribeResponse {
		t.Helper()
		f, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
}

func TestSubscribeReadsHistoryThenFollows(t *testing.T) {
	for _, shards := range []int32{1, 3} {
		for _, stream := range []string{"", "a"} {
			t.Run(fmt.Sprintf("%d shards, stream %q", shards, stream), func(t *testing.T) {
				e := newEdge(t, shards)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				e.append("a", 3)
				if stream == "" {
					e.append("b", 2)
				}
				history := 3
				if stream == "" {
					history = 5
				}
				next := frames(ctx, t, e, &apiv1.SubscribeRequest{Stream: stream})
				var resume string
				for i := range history {
					ev := next().GetEvent()
					if ev == nil {
						t.Fatalf("frame %d is no event", i)
					}
					if i == 1 {
						resume = ev.GetPosition()
					}
				}
				caught := next().GetCaughtUp()
				if caught == nil {
					t.Fatal("no caught_up after history")
				}
				e.append("a", 1)
				if got := next().GetEvent(); got.GetStreamId() != "a" || got.GetVersion() != 3 {
					t.Fatalf("live: %v", got)
				}
				// From a position: exactly what came after it.
				again := frames(ctx, t, e, &apiv1.SubscribeRequest{Stream: stream, From: resume})
				for range history - 2 + 1 {
					if again().GetEvent() == nil {
						t.Fatal("an event is missing after the position")
					}
				}
				if again().GetCaughtUp() == nil {
					t.Fatal("too much after the position")
				}
				// From caught_up: only what came since.
				since := frames(ctx, t, e, &apiv1.SubscribeRequest{Stream: stream, From: caught.GetPosition()})
				if ev := since().GetEvent(); ev.GetVersion() != 3 {
					t.Fatalf("since caught_up: %v", ev)
				}
				now := frames(ctx, t, e, &apiv1.SubscribeRequest{Stream: stream, From: "now"})
				if now().GetCaughtUp() == nil {
					t.Fatal("history in a subscription from now")
				}
				e.append("a", 1)
				if ev := now().GetEvent(); ev.GetVersion() != 4 {
					t.Fatalf("from now: %v", ev)
				}
			})
		}
	}
}

func TestSubscribeToAStreamThatIsNotThereYet(t *testing.T) {
	e := newEdge(t, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	next := frames(ctx, t, e, &apiv1.SubscribeRequest{Stream: "later", EventType: []string{"T1"}})
	if next().GetCaughtUp() == nil {
		t.Fatal("not caught up with nothing")
	}
	e.append("later", 2)
	if ev := next().GetEvent(); ev.GetEventType() != "T1" || ev.GetVersion() != 1 {
		t.Fatalf("got %v", ev)
	}
}

func TestSubscribeBeatsAndEndsWithTheGateway(t *testing.T) {
	e := newEdge(t, 1, func(o *Options) { o.Heartbeat = time.Millisecond })
	next := frames(context.Background(), t, e, &apiv1.SubscribeRequest{})
	next()
	if next().GetHeartbeat().GetPosition() == "" {
		t.Fatal("no heartbeat with a position")
	}
	s, err := e.client.Subscribe(context.Background(), &apiv1.SubscribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := e.svc.Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = s.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Fatalf("the subscription ends with %v", err)
	}
}

// A long history comes in pages, in order, without a gap.
func TestSubscribePages(t *testing.T) {
	e := newEdge(t, 2)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const writes, each = 30, 100
	for i := range writes {
		e.append(fmt.Sprintf("s%d", i%3), each)
	}
	next := frames(ctx, t, e, &apiv1.SubscribeRequest{})
	versions := map[string]int64{}
	for range writes * each {
		ev := next().GetEvent()
		if ev.GetVersion() != versions[ev.GetStreamId()] {
			t.Fatalf("stream %s is at %d, got %v", ev.GetStreamId(), versions[ev.GetStreamId()], ev)
		}
		versions[ev.GetStreamId()]++
	}
	if next().GetCaughtUp() == nil {
		t.Fatal("not caught up")
	}
}

func TestSubscribeOverSSE(t *testing.T) {
	e := newEdge(t, 1)
	if res, body := e.do("POST", "/v1/streams/s/events", "{\"events\":[{\"event_type\":\"T\",\"data\":{\"a\":\r\n1.0}},{\"event_type\":\"T\",\"data\":2}]}"); res.StatusCode != 200 {
		t.Fatal(body)
	}
	open := func(query string, headers ...string) (*bufio.Reader, *http.Response) {
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		req, err := http.NewRequestWithContext(ctx, "GET", e.url+"/v1/subscribe"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return bufio.NewReader(res.Body), res
	}
	frame := func(r *bufio.Reader) map[string]string {
		t.Helper()
		f := map[string]string{}
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			line = strings.TrimSuffix(line, "\n")
			if line == "" {
				return f
			}
			name, value, _ := strings.Cut(line, ": ")
			if f[name] != "" {
				t.Fatalf("field %q twice", name)
			}
			f[name] = value
		}
	}
	r, res := open("?stream=s", "Accept", "text/event-stream")
	if res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(res.Header)
	}
	first := frame(r)
	if first["event"] != "event" || first["id"] == "" || !strings.Contains(first["data"], `"data":{"a":  1.0},`) || !json.Valid([]byte(first["data"])) {
		t.Fatalf("first frame %v", first)
	}
	if f := frame(r); f["event"] != "event" {
		t.Fatalf("second frame %v", f)
	}
	if f := frame(r); f["event"] != "caught_up" || !strings.Contains(f["data"], `"position"`) || f["id"] == "" {
		t.Fatalf("third frame %v", f)
	}
	// A browser that reconnects repeats the query and adds the last id.
	r, _ = open("?stream=s&from=start", "Last-Event-ID", first["id"])
	if f := frame(r); f["event"] != "event" || !strings.Contains(f["data"], `"version":1`) {
		t.Fatalf("after Last-Event-ID: %v", f)
	}
	r, res = open("", "Accept", "application/x-ndjson")
	if res.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatal(res.Header)
	}
	for _, want := range []string{`{"event":{"event_id":`, `{"event":{"event_id":`, `{"caught_up":{"position":`} {
		line, err := r.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, want) || !json.Valid([]byte(line)) {
			t.Fatalf("line %q, %v", line, err)
		}
	}
	// A stream that is tombstoned meanwhile ends with the problem.
	r, _ = open("?stream=s&from=now")
	frame(r)
	if res, body := e.do("DELETE", "/v1/streams/s?mode=tombstone", ""); res.StatusCode != 200 {
		t.Fatal(body)
	}
	if f := frame(r); f["event"] != "problem" || !strings.Contains(f["data"], core.TypeTombstoned) {
		t.Fatalf("after the tombstone: %v", f)
	}
}

func TestLargePagesFit(t *testing.T) {
	e := newEdge(t, 1)
	ctx := context.Background()
	for range 5 {
		req := &apiv1.AppendRequest{StreamId: "s", Events: []*apiv1.ProposedEvent{{EventType: "T", Binary: true, Data: make([]byte, 1<<20-100)}}}
		if _, err := e.client.Append(ctx, req, grpc.MaxCallSendMsgSize(16<<20)); err != nil {
			t.Fatal(err)
		}
	}
	page, err := e.client.ReadStream(ctx, readOf("s"))
	if err != nil || len(page.GetEvents()) != 4 || !page.GetHasMore() || page.GetNextVersion() != 4 {
		t.Fatalf("%d events of 1 MiB in a page, %v", len(page.GetEvents()), err)
	}
	if n := proto.Size(page); n > 5<<20 {
		t.Fatalf("page of %d bytes", n)
	}
}
