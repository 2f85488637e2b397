package bench

import (
	"context"
	"fmt"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// GRPCOptions say how to reach a store that speaks our API.
type GRPCOptions struct {
	Name, Addr, Token string
	// Connections that the writers share. Default: 2.
	Connections int
	// Unary makes one call for each append instead of sharing AppendStream calls.
	Unary bool
}

// eventStore is a target that speaks our API: ExESDB, and the limit.
type eventStore struct {
	name    string
	mux     *multiplexer
	clients []apiv1.EventStoreClient
	token   string
	unary   bool
}

// NewEventStore connects at first use.
func NewEventStore(o GRPCOptions) (Target, error) {
	mux, err := newMultiplexer(o.Addr, o.Token, max(o.Connections, 1))
	if err != nil {
		return nil, err
	}
	e := &eventStore{name: o.Name, mux: mux, token: o.Token, unary: o.Unary}
	for _, c := range mux.conns {
		e.clients = append(e.clients, apiv1.NewEventStoreClient(c))
	}
	return e, nil
}

func (e *eventStore) Name() string { return e.name }
func (e *eventStore) Close() error { return e.mux.Close() }

func (e *eventStore) Append(ctx context.Context, stream string, expected int64, events [][]byte) (int64, error) {
	proposed := make([]apiv1.ProposedEvent, len(events))
	req := &apiv1.AppendRequest{StreamId: stream, ExpectedVersion: &expected, Events: make([]*apiv1.ProposedEvent, len(events))}
	for i, data := range events {
		proposed[i].EventType, proposed[i].Data = "BenchEvent", data
		req.Events[i] = &proposed[i]
	}
	if !e.unary {
		resp, err := e.mux.Append(ctx, req)
		return resp.GetNewVersion(), err
	}
	client := e.clients[e.mux.next.Add(1)%uint64(len(e.clients))]
	resp, err := client.Append(authorized(ctx, e.token), req)
	if err != nil {
		return 0, fmt.Errorf("append to stream %s: %w", stream, err)
	}
	return resp.GetNewVersion(), nil
}

// ReadPage implements PageReader.
func (e *eventStore) ReadPage(ctx context.Context, stream string, from int64, limit int) (n int, next int64, more bool, err error) {
	resp, err := e.clients[0].ReadStream(authorized(ctx, e.token), &apiv1.ReadStreamRequest{StreamId: stream, FromVersion: &from, Limit: int32(limit)}) //nolint:gosec // a page
	if err != nil {
		return 0, 0, false, fmt.Errorf("read stream %s from version %d: %w", stream, from, err)
	}
	return len(resp.GetEvents()), resp.GetNextVersion(), resp.GetHasMore(), nil
}
