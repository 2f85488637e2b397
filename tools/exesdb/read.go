package main

import (
	"bufio"
	"context"
	"fmt"
	"os"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// readCommand prints events as JSON lines.
type readCommand struct {
	target   `embed:""`
	Stream   string   `arg:"" optional:"" help:"Stream id; all streams when left out."`
	From     int64    `name:"from-version" default:"-1" help:"First version (backward: last)."`
	Backward bool     `name:"backward" help:"From the newest to the oldest."`
	Limit    int64    `name:"limit" help:"Most events; 0 is all."`
	Types    []string `name:"type" help:"Only these event types (all streams)."`
	Tags     []string `name:"tag" help:"Only events with these tags (all streams)."`
	Prefix   string   `name:"stream-prefix" help:"Only streams that start so (all streams)."`
}

// pageSize is the page that commands ask for: few round trips, bounded memory.
const pageSize = 4096

// Run prints the events.
func (r *readCommand) Run(ctx context.Context) error {
	client, closeConn, err := r.dial()
	if err != nil {
		return err
	}
	defer closeConn()
	out := bufio.NewWriter(os.Stdout)
	show := func(events []*apiv1.Event) error {
		for _, e := range events {
			if err := writeLine(out, lineOf(e)); err != nil {
				return err
			}
		}
		return nil
	}
	if r.Stream == "" {
		err = r.all(r.context(ctx), client, show)
	} else {
		err = r.stream(r.context(ctx), client, show)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

func (r *readCommand) size(done int64) int32 {
	if r.Limit > 0 && r.Limit-done < pageSize {
		return int32(r.Limit - done) //nolint:gosec // below pageSize
	}
	return pageSize
}

func (r *readCommand) stream(ctx context.Context, client apiv1.EventStoreClient, show func([]*apiv1.Event) error) error {
	req := &apiv1.ReadStreamRequest{StreamId: r.Stream}
	if r.From >= 0 {
		req.FromVersion = &r.From
	}
	if r.Backward {
		req.Direction = "backward"
	}
	for done := int64(0); ; {
		req.Limit = r.size(done)
		page, err := client.ReadStream(ctx, req)
		if err != nil {
			return explain("read "+r.Stream, err)
		}
		if err := show(page.GetEvents()); err != nil {
			return err
		}
		done += int64(len(page.GetEvents()))
		if !page.GetHasMore() || r.Limit > 0 && done >= r.Limit {
			return nil
		}
		next := page.GetNextVersion()
		req.FromVersion = &next
	}
}

func (r *readCommand) all(ctx context.Context, client apiv1.EventStoreClient, show func([]*apiv1.Event) error) error {
	if r.Backward || r.From >= 0 {
		return fmt.Errorf("--backward and --from-version read one stream: name it")
	}
	req := &apiv1.ReadAllRequest{EventType: r.Types, Tag: r.Tags, StreamPrefix: r.Prefix}
	for done := int64(0); ; {
		req.Limit = r.size(done)
		page, err := client.ReadAll(ctx, req)
		if err != nil {
			return explain("read all streams", err)
		}
		if err := show(page.GetEvents()); err != nil {
			return err
		}
		done += int64(len(page.GetEvents()))
		if !page.GetHasMore() || r.Limit > 0 && done >= r.Limit {
			return nil
		}
		req.FromPosition = page.GetNextPosition()
	}
}

// streamsCommand lists streams.
type streamsCommand struct {
	target `embed:""`
	Prefix string `arg:"" optional:"" help:"Only streams that start so."`
}

// Run prints a line per stream: its id and last version.
func (s *streamsCommand) Run(ctx context.Context) error {
	client, closeConn, err := s.dial()
	if err != nil {
		return err
	}
	defer closeConn()
	out := bufio.NewWriter(os.Stdout)
	req := &apiv1.ListStreamsRequest{Prefix: s.Prefix, Limit: 1000}
	for {
		page, err := client.ListStreams(s.context(ctx), req)
		if err != nil {
			return explain("list streams", err)
		}
		for _, st := range page.GetStreams() {
			if _, err := fmt.Fprintf(out, "%s\t%d\n", st.GetStreamId(), st.GetVersion()); err != nil {
				return err
			}
		}
		if page.GetNextPageToken() == "" {
			return out.Flush()
		}
		req.PageToken = page.GetNextPageToken()
	}
}
