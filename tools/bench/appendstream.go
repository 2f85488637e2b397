package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// maxMessageBytes fits the largest page.
const maxMessageBytes = 16 << 20

// multiplexer appends over a few AppendStream calls that all writers share, as a client of a busy service does:
// the fixed cost of a call is paid once, and both ends can write many messages at once.
type multiplexer struct {
	conns []*grpc.ClientConn
	lanes []*lane
	next  atomic.Uint64
	stop  context.CancelFunc
}

// lane is one AppendStream call on a connection of its own, opened anew after it broke.
type lane struct {
	ctx    context.Context
	client apiv1.EventStoreClient

	// sending also guards stream. It is not held while waiting is: a Send that waits for the server must
	// not keep answers from being taken.
	sending sync.Mutex
	stream  grpc.BidiStreamingClient[apiv1.AppendStreamRequest, apiv1.AppendStreamResponse]

	waitingMu sync.Mutex
	waiting   map[uint64]chan answer
	last      uint64
}

type answer struct {
	resp *apiv1.AppendStreamResponse
	err  error
}

// answers are used again: each holds at most one answer and is empty in the pool.
var answers = sync.Pool{New: func() any { return make(chan answer, 1) }}

func dial(addr string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
		grpc.WithInitialWindowSize(4<<20), grpc.WithInitialConnWindowSize(8<<20),
		grpc.WithReadBufferSize(128<<10), grpc.WithWriteBufferSize(128<<10))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return conn, nil
}

// newMultiplexer connects at first use.
func newMultiplexer(addr, token string, connections int) (*multiplexer, error) {
	ctx, stop := context.WithCancel(authorized(context.Background(), token))
	m := &multiplexer{stop: stop}
	for range connections {
		conn, err := dial(addr)
		if err != nil {
			return nil, errors.Join(err, m.Close())
		}
		m.conns = append(m.conns, conn)
		m.lanes = append(m.lanes, &lane{ctx: ctx, client: apiv1.NewEventStoreClient(conn), waiting: map[uint64]chan answer{}})
	}
	return m, nil
}

func authorized(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// Append waits for the answer to one append.
func (m *multiplexer) Append(ctx context.Context, req *apiv1.AppendRequest) (*apiv1.AppendResponse, error) {
	resp, err := m.lanes[m.next.Add(1)%uint64(len(m.lanes))].append(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("append to stream %s: %w", req.GetStreamId(), err)
	}
	if p := resp.GetProblem(); p != nil {
		return nil, fmt.Errorf("append to stream %s: %s: %s", req.GetStreamId(), p.GetType(), p.GetDetail())
	}
	return resp.GetOk(), nil
}

// Close ends the calls; appends that wait fail.
func (m *multiplexer) Close() error {
	m.stop()
	var errs []error
	for _, c := range m.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (l *lane) append(ctx context.Context, req *apiv1.AppendRequest) (*apiv1.AppendStreamResponse, error) {
	ch := answers.Get().(chan answer) //nolint:forcetypeassert // nothing else is put there
	l.waitingMu.Lock()
	l.last++
	id := l.last
	l.waiting[id] = ch
	l.waitingMu.Unlock()
	if err := l.send(&apiv1.AppendStreamRequest{Correlation: id, Append: req}); err != nil {
		l.forget(id)
		return nil, err
	}
	select {
	case a := <-ch:
		answers.Put(ch)
		return a.resp, a.err
	case <-ctx.Done():
		l.forget(id) // an answer may be in the channel by now: it is not used again
		return nil, ctx.Err()
	}
}

func (l *lane) forget(id uint64) {
	l.waitingMu.Lock()
	delete(l.waiting, id)
	l.waitingMu.Unlock()
}

func (l *lane) send(req *apiv1.AppendStreamRequest) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	if l.stream == nil {
		stream, err := l.client.AppendStream(l.ctx)
		if err != nil {
			return err
		}
		l.stream = stream
		go l.receive(stream)
	}
	return l.stream.Send(req)
}

// receive hands out answers until the call ends, and then the error to all who wait.
func (l *lane) receive(stream grpc.BidiStreamingClient[apiv1.AppendStreamRequest, apiv1.AppendStreamResponse]) {
	for {
		resp, err := stream.Recv()
		if err != nil {
			l.end(stream, err)
			return
		}
		l.waitingMu.Lock()
		ch := l.waiting[resp.GetCorrelation()]
		delete(l.waiting, resp.GetCorrelation())
		l.waitingMu.Unlock()
		if ch != nil {
			ch <- answer{resp: resp}
		}
	}
}

func (l *lane) end(stream grpc.BidiStreamingClient[apiv1.AppendStreamRequest, apiv1.AppendStreamResponse], err error) {
	l.sending.Lock()
	if l.stream == stream {
		l.stream = nil
	}
	l.waitingMu.Lock()
	orphans := l.waiting
	l.waiting = map[uint64]chan answer{}
	l.waitingMu.Unlock()
	l.sending.Unlock()
	for _, ch := range orphans {
		ch <- answer{err: err}
	}
}
