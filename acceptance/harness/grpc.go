package harness

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"time"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// GRPC talks to a gateway over gRPC.
type GRPC struct {
	API  apiv1.EventStoreClient
	Conn *grpc.ClientConn
}

// NewGRPC makes a client for a gateway's gRPC address.
func NewGRPC(t testing.TB, addr string) *GRPC {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20), grpc.MaxCallSendMsgSize(16<<20)),
		// A gateway that is back is found at once.
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second, Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond}}))
	if err != nil {
		t.Fatalf("connect to %s: %v", addr, err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &GRPC{API: apiv1.NewEventStoreClient(conn), Conn: conn}
}

// Append implements Store.
func (c *GRPC) Append(ctx context.Context, a Append) (Appended, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req := &apiv1.AppendRequest{StreamId: a.Stream, ExpectedVersion: a.Expected, IdempotencyKey: a.Key}
	for _, e := range a.Events {
		req.Events = append(req.Events, &apiv1.ProposedEvent{
			EventId: e.EventID, EventType: e.EventType, Data: e.Body(), Binary: e.DataBase64 != nil, Metadata: e.Metadata, Tags: e.Tags,
		})
	}
	resp, err := c.API.Append(ctx, req)
	if err != nil {
		return Appended{}, GRPCProblem(err)
	}
	return Appended{
		StreamID: resp.GetStreamId(), WriteID: resp.GetWriteId(), FirstVersion: resp.GetFirstVersion(),
		NewVersion: resp.GetNewVersion(), Position: resp.GetPosition(), EventIDs: resp.GetEventIds(),
	}, nil
}

// Head implements Store.
func (c *GRPC) Head(ctx context.Context, stream string) (Head, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	resp, err := c.API.GetStream(ctx, &apiv1.GetStreamRequest{StreamId: stream})
	if err != nil {
		if err = GRPCProblem(err); Status(err) == http.StatusNotFound {
			return Head{StreamID: stream, Version: -1}, nil
		}
		return Head{}, err
	}
	return Head{StreamID: resp.GetStreamId(), Version: resp.GetVersion(), Count: resp.GetCount()}, nil
}

// GRPCProblem turns a gRPC error into the problem that it carries; one without is as it was.
func GRPCProblem(err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, d := range st.Details() {
		if p, ok := d.(*apiv1.Problem); ok {
			return &Problem{
				Type: p.GetType(), Title: p.GetTitle(), Status: int(p.GetStatus()), Detail: p.GetDetail(), StreamID: p.GetStreamId(),
				ExpectedVersion: p.ExpectedVersion, ActualVersion: p.ActualVersion, WriteID: p.GetWriteId(), RetryAfter: int(p.GetRetryAfter()),
			}
		}
	}
	return fmt.Errorf("grpc without a problem: %w", err)
}
