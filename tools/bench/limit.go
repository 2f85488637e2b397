package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/tools/embedded"
)

// The topics of the bare pipeline, and what they stand for.
const (
	topicRequested = "limit.requested" // stream_write_requested: whole values
	topicLog       = "limit.log"       // write_command_validated: whole values
	topicOutcomes  = "limit.outcomes"  // events_persisted: small
	topicAcks      = "limit.acks"      // write_acknowledged: small
)

const (
	limitDrain      = 4096 // requests of one batch at most
	limitDrainBytes = 4 << 20
	limitTopicBytes = 64 << 20 // as in `exesdb up`
	idBytes         = 8
)

// pipeline has every hop of a write and nothing else: gRPC, four topics over the embedded broker with our own driver,
// each stage draining what is there, and one fsync a batch. It checks no version, knows no stream, writes no index.
type pipeline struct {
	apiv1.UnimplementedEventStoreServer

	client   *bus.Client
	requests chan bus.Record

	mu      sync.Mutex
	waiting map[uint64]pendingAppend
	last    uint64
}

// pendingAppend is where the answer goes.
type pendingAppend struct {
	to          *outbox
	correlation uint64
	stream      string
	version     int64
}

// ServeLimit runs the bare pipeline in this process until ctx ends. ready is told its gRPC address.
func ServeLimit(ctx context.Context, dir string, ready func(addr string)) (err error) {
	broker, err := embedded.StartBroker(embedded.BrokerOptions{Addr: "127.0.0.1:0", Dir: filepath.Join(dir, "broker")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	client, err := bus.Dial(ctx, bus.Config{Brokers: []string{broker.Addr()}, ClientID: "limit"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	var specs []bus.TopicSpec
	for _, name := range []string{topicRequested, topicLog, topicOutcomes, topicAcks} {
		specs = append(specs, bus.TopicSpec{Name: name, Partitions: 1, Configs: map[string]string{"retention.bytes": fmt.Sprint(limitTopicBytes)}})
	}
	if err := client.EnsureTopics(ctx, specs); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, "events"))
	if err != nil {
		return fmt.Errorf("create the file of events: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}

	p := &pipeline{client: client, requests: make(chan bus.Record, limitDrain), waiting: map[uint64]pendingAppend{}}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessageBytes), grpc.InitialWindowSize(4<<20), grpc.InitialConnWindowSize(8<<20),
		grpc.ReadBufferSize(128<<10), grpc.WriteBufferSize(128<<10))
	apiv1.RegisterEventStoreServer(server, p)

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.front(ctx) })
	g.Go(func() error { return p.stage(ctx, topicRequested, topicLog, same) })
	g.Go(func() error { return p.stage(ctx, topicLog, topicOutcomes, (&durable{file: file}).write) })
	g.Go(func() error { return p.stage(ctx, topicOutcomes, topicAcks, same) })
	g.Go(func() error { return p.answer(ctx) })
	g.Go(func() error { return server.Serve(listener) })
	g.Go(func() error {
		<-ctx.Done()
		server.Stop()
		return nil
	})
	ready(listener.Addr().String())
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// AppendStream puts requests into the pipeline and hands back answers as they come.
func (p *pipeline) AppendStream(call grpc.BidiStreamingServer[apiv1.AppendStreamRequest, apiv1.AppendStreamResponse]) error {
	out := &outbox{filled: make(chan struct{}, 1)}
	sent := make(chan error, 1)
	go func() { sent <- out.drain(call) }()
	for {
		req, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		version := max(req.GetAppend().GetExpectedVersion(), NoStream) + int64(len(req.GetAppend().GetEvents()))
		p.mu.Lock()
		p.last++
		id := p.last
		p.waiting[id] = pendingAppend{to: out, correlation: req.GetCorrelation(), stream: req.GetAppend().GetStreamId(), version: version}
		p.mu.Unlock()
		value := binary.BigEndian.AppendUint64(make([]byte, 0, idBytes+proto.Size(req.GetAppend())), id)
		if value, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(value, req.GetAppend()); err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		select {
		case p.requests <- bus.Record{Value: value}:
		case err := <-sent:
			return err
		}
	}
}

// front produces requests: what has gathered while the batch before was on its way is the next batch.
func (p *pipeline) front(ctx context.Context) error {
	producer := bus.NewProducer(p.client)
	defer producer.Close()
	batch := make([]bus.Record, 0, limitDrain)
	for {
		select {
		case r := <-p.requests:
			batch = append(batch[:0], r)
		case <-ctx.Done():
			return ctx.Err()
		}
		for size := len(batch[0].Value); len(batch) < limitDrain && size < limitDrainBytes && len(p.requests) > 0; {
			r := <-p.requests
			batch, size = append(batch, r), size+len(r.Value)
		}
		if _, err := producer.Append(ctx, topicRequested, 0, batch); err != nil {
			return err
		}
	}
}

// stage drains one topic into another, batch by batch.
func (p *pipeline) stage(ctx context.Context, from, to string, do func([]bus.Record) ([]bus.Record, error)) error {
	reader, err := bus.NewReader(p.client, bus.ReaderOptions{Topic: from, Prefetch: true})
	if err != nil {
		return err
	}
	defer reader.Close()
	producer := bus.NewProducer(p.client)
	defer producer.Close()
	for {
		in, err := reader.Poll(ctx)
		if err != nil {
			return err
		}
		out, err := do(in)
		if err != nil {
			return err
		}
		if _, err := producer.Append(ctx, to, 0, out); err != nil {
			return err
		}
	}
}

func same(in []bus.Record) ([]bus.Record, error) {
	out := make([]bus.Record, len(in))
	for i := range in {
		out[i].Value = in[i].Value
	}
	return out, nil
}

// durable writes values to a file, with one fsync for each batch.
type durable struct {
	file   *os.File
	buffer []byte
}

func (d *durable) write(in []bus.Record) ([]bus.Record, error) {
	out := make([]bus.Record, len(in))
	d.buffer = d.buffer[:0]
	for i := range in {
		d.buffer = append(d.buffer, in[i].Value...)
		out[i].Value = in[i].Value[:idBytes]
	}
	if _, err := d.file.Write(d.buffer); err != nil {
		return nil, fmt.Errorf("write a batch: %w", err)
	}
	if err := d.file.Sync(); err != nil {
		return nil, fmt.Errorf("sync a batch: %w", err)
	}
	return out, nil
}

// answer reads acknowledgements and gives each to the call that waits for it.
func (p *pipeline) answer(ctx context.Context) error {
	reader, err := bus.NewReader(p.client, bus.ReaderOptions{Topic: topicAcks, Prefetch: true})
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		in, err := reader.Poll(ctx)
		if err != nil {
			return err
		}
		for i := range in {
			id := binary.BigEndian.Uint64(in[i].Value)
			p.mu.Lock()
			w, ok := p.waiting[id]
			delete(p.waiting, id)
			p.mu.Unlock()
			if ok {
				w.to.put(&apiv1.AppendStreamResponse{Correlation: w.correlation, Ok: &apiv1.AppendResponse{StreamId: w.stream, NewVersion: w.version}})
			}
		}
	}
}

// outbox holds the answers of one call until they are sent.
type outbox struct {
	mu     sync.Mutex
	queue  []*apiv1.AppendStreamResponse
	filled chan struct{}
}

func (o *outbox) put(r *apiv1.AppendStreamResponse) {
	o.mu.Lock()
	o.queue = append(o.queue, r)
	o.mu.Unlock()
	select {
	case o.filled <- struct{}{}:
	default:
	}
}

func (o *outbox) drain(call grpc.BidiStreamingServer[apiv1.AppendStreamRequest, apiv1.AppendStreamResponse]) error {
	var spare []*apiv1.AppendStreamResponse
	for {
		select {
		case <-o.filled:
		case <-call.Context().Done():
			return call.Context().Err()
		}
		o.mu.Lock()
		full := o.queue
		o.queue = spare[:0]
		o.mu.Unlock()
		for _, r := range full {
			if err := call.Send(r); err != nil {
				return err
			}
		}
		clear(full)
		spare = full
	}
}
