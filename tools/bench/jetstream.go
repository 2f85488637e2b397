package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// jetStreamConnections that the writers share, as many as ExESDB's get.
const jetStreamConnections = 2

// ServeJetStream runs a NATS server in this process that syncs each write before it answers.
func ServeJetStream(ctx context.Context, dir string, ready func(addr string)) error {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, SyncAlways: true,
		NoLog: true, NoSigs: true, MaxPayload: 8 << 20,
	})
	if err != nil {
		return fmt.Errorf("start nats-server: %w", err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(10 * time.Second) {
		return errors.New("start nats-server: not ready after 10 s")
	}
	ready(s.Addr().String())
	<-ctx.Done()
	return nil
}

// jetStream keeps a stream as a subject. Its expected version is the sequence of the subject's last message, which
// is also what an append returns.
type jetStream struct {
	conns []*nats.Conn
	js    []jetstream.JetStream
	next  atomic.Uint64
}

// NewJetStream connects and makes the stream that holds all subjects.
func NewJetStream(ctx context.Context, addr string) (Target, error) {
	j := &jetStream{}
	for range jetStreamConnections {
		nc, err := nats.Connect("nats://"+addr, nats.MaxReconnects(-1))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("connect to nats-server: %w", err), j.Close())
		}
		j.conns = append(j.conns, nc)
		js, err := jetstream.New(nc)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("use jetstream: %w", err), j.Close())
		}
		j.js = append(j.js, js)
	}
	_, err := j.js[0].CreateStream(ctx, jetstream.StreamConfig{Name: "s", Subjects: []string{"s.>"}, Storage: jetstream.FileStorage, AllowAtomicPublish: true})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create the jetstream stream: %w", err), j.Close())
	}
	return j, nil
}

func (*jetStream) Name() string { return "jetstream" }

func (j *jetStream) Close() error {
	for _, nc := range j.conns {
		nc.Close()
	}
	return nil
}

func (j *jetStream) Append(ctx context.Context, stream string, expected int64, events [][]byte) (int64, error) {
	n := j.next.Add(1) % uint64(len(j.js))
	msg := nats.NewMsg("s." + stream)
	if expected != Any {
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatInt(max(expected, 0), 10))
	}
	if len(events) > 1 {
		return j.batch(ctx, j.conns[n], msg, events)
	}
	msg.Data = events[0]
	ack, err := j.js[n].PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, fmt.Errorf("publish to %s: %w", msg.Subject, err)
	}
	return int64(ack.Sequence), nil //nolint:gosec // a sequence
}

// batch publishes all events or none (ADR-50): the last one commits and gets the answer.
func (j *jetStream) batch(ctx context.Context, nc *nats.Conn, first *nats.Msg, events [][]byte) (int64, error) {
	id := nuid.Next()
	for i, data := range events {
		msg := first
		if i > 0 {
			msg = nats.NewMsg(first.Subject)
		}
		msg.Data = data
		msg.Header.Set("Nats-Batch-Id", id)
		msg.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if i < len(events)-1 {
			if err := nc.PublishMsg(msg); err != nil {
				return 0, fmt.Errorf("publish to %s: %w", msg.Subject, err)
			}
			continue
		}
		msg.Header.Set("Nats-Batch-Commit", "1")
		resp, err := nc.RequestMsgWithContext(ctx, msg)
		if err != nil {
			return 0, fmt.Errorf("commit a batch to %s: %w", msg.Subject, err)
		}
		var ack struct {
			Error    *jetstream.APIError `json:"error"`
			Sequence int64               `json:"seq"`
		}
		if err := json.Unmarshal(resp.Data, &ack); err != nil {
			return 0, fmt.Errorf("commit a batch to %s: %w", msg.Subject, err)
		}
		if ack.Error != nil {
			return 0, fmt.Errorf("commit a batch to %s: %w", msg.Subject, ack.Error)
		}
		return ack.Sequence, nil
	}
	return 0, errors.New("a batch without events")
}
