package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// target is where a command finds the store.
type target struct {
	Addr  string `name:"addr" env:"EXESDB_GRPC_ADDR" default:"127.0.0.1:9090" help:"gRPC address of a gateway."`
	Token string `name:"token" env:"EXESDB_TOKEN" help:"Bearer token, when the gateway asks for one."`
}

// maxMessageBytes fits the largest page and the largest write.
const maxMessageBytes = 16 << 20

// dial connects to the gateway; the connection is made at the first call.
func (t target) dial() (apiv1.EventStoreClient, func(), error) {
	conn, err := grpc.NewClient("passthrough:///"+t.Addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
		grpc.WithInitialWindowSize(4<<20), grpc.WithInitialConnWindowSize(8<<20))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s (--addr): %w", t.Addr, err)
	}
	closeConn := func() {
		if err := conn.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "exesdb: close connection:", err)
		}
	}
	return apiv1.NewEventStoreClient(conn), closeConn, nil
}

func (t target) context(ctx context.Context) context.Context {
	if t.Token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+t.Token)
}

// explain turns a gRPC error into the problem that the gateway described.
func explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%s: %w", doing, err)
	}
	for _, d := range st.Details() {
		if p, ok := d.(*apiv1.Problem); ok {
			line := p.GetDetail()
			if p.ActualVersion != nil {
				line += fmt.Sprintf(" (actual version %d)", p.GetActualVersion())
			}
			return fmt.Errorf("%s: %s: %s", doing, p.GetTitle(), line)
		}
	}
	if strings.Contains(st.Message(), "connection refused") {
		return fmt.Errorf("%s: nothing answers: is the store running (`exesdb up`), and is --addr right?", doing)
	}
	return fmt.Errorf("%s: %w", doing, errors.New(st.Message()))
}
