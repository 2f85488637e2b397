package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// appendCommand appends one event.
type appendCommand struct {
	target          `embed:""`
	Stream          string   `arg:"" help:"Stream id."`
	Type            string   `arg:"" help:"Event type."`
	Data            string   `arg:"" optional:"" help:"Payload, any JSON value; \"-\" reads standard input."`
	ExpectedVersion int64    `name:"expected-version" default:"-2" help:"n exact, -1 no stream, -2 any, -4 stream exists."`
	EventID         string   `name:"event-id" help:"Event id (default: made by the server)."`
	Key             string   `name:"idempotency-key" help:"The same key with the same request has one effect."`
	Metadata        string   `name:"metadata" help:"A JSON object."`
	Tags            []string `name:"tag" help:"Tag; repeatable."`
}

// Run appends the event and prints where it is.
func (a *appendCommand) Run(ctx context.Context) error {
	data := []byte(a.Data)
	if a.Data == "-" {
		read, err := io.ReadAll(os.Stdin)
		if err != nil {
			return fmt.Errorf("read the payload from standard input: %w", err)
		}
		data = read
	}
	client, closeConn, err := a.dial()
	if err != nil {
		return err
	}
	defer closeConn()
	resp, err := client.Append(a.context(ctx), &apiv1.AppendRequest{
		StreamId: a.Stream, ExpectedVersion: &a.ExpectedVersion, IdempotencyKey: a.Key,
		Events: []*apiv1.ProposedEvent{{EventId: a.EventID, EventType: a.Type, Data: data, Metadata: []byte(a.Metadata), Tags: a.Tags}},
	})
	if err != nil {
		return explain("append to "+a.Stream, err)
	}
	return json.NewEncoder(os.Stdout).Encode(struct {
		Stream   string `json:"stream_id"`
		Version  int64  `json:"new_version"`
		Position string `json:"position"`
		EventID  string `json:"event_id"`
	}{resp.GetStreamId(), resp.GetNewVersion(), resp.GetPosition(), resp.GetEventIds()[0]})
}
