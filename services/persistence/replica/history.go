package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/persistence/storage"
	"github.com/exesdb/exesdb/shared/bus"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

const (
	// mostReading pages are read at once.
	mostReading = 4
	// mostWaiting requests wait for their log offset or for a reader.
	mostWaiting = 1024
	// mostReplyBytes of answers go out in one call.
	mostReplyBytes = 6 << 20
	// patience for requests that name no deadline.
	patience = 5 * time.Second
)

// historyServer answers historical_events_requested of one shard.
type historyServer struct {
	shard    int32
	node     string
	bus      Bus
	envelope Envelope
	store    *storage.Shard
	progress *progress
	leads    func() (bool, int64)
	alone    func() bool
	log      *slog.Logger

	admitted chan struct{} // one per request in hand
	reading  chan struct{} // one per page being read
	replies  chan bus.Record
}

// run reads requests from now on until ctx is done. Those of before were given
// up by whoever asked.
func (h *historyServer) run(ctx context.Context) error {
	reader, err := h.bus.Reader(bus.ReaderOptions{
		Topic: h.envelope.Topic(registry.HistoricalEventsRequested), Partition: h.shard, Offset: bus.OffsetNewest,
	})
	if err != nil {
		return fmt.Errorf("serve history of shard %d: %w", h.shard, err)
	}
	defer func() { _ = reader.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	var hands sync.WaitGroup
	defer hands.Wait()
	defer cancel()
	hands.Go(func() { h.reply(ctx) })
	for {
		records, err := reader.Poll(ctx)
		if err != nil {
			return fmt.Errorf("serve history of shard %d: %w", h.shard, err)
		}
		for _, r := range records {
			req := new(eventsv1.HistoricalEventsRequested)
			if err := proto.Unmarshal(r.Value, req); err != nil {
				h.log.Warn("history request not readable, going on", "shard", h.shard, "offset", r.Offset, "error", err)
				continue
			}
			if !h.mine(req) {
				continue
			}
			select {
			case h.admitted <- struct{}{}:
				hands.Go(func() {
					defer func() { <-h.admitted }()
					h.answer(ctx, req)
				})
			default: // flooded: an honest refusal costs nothing
				hands.Go(func() { h.refuse(ctx, req, "the replica is busy: ask again later or ask another") })
			}
		}
	}
}

// mine tells whether this replica shall answer.
func (h *historyServer) mine(req *eventsv1.HistoricalEventsRequested) bool {
	if req.Replica != "" {
		return req.Replica == h.node
	}
	if leads, _ := h.leads(); leads {
		return true
	}
	return h.alone()
}

// answer waits until the log is applied far enough, reads the page and replies.
func (h *historyServer) answer(ctx context.Context, req *eventsv1.HistoricalEventsRequested) {
	until := time.Now().Add(patience)
	if req.DeadlineMs > 0 {
		until = time.UnixMilli(req.DeadlineMs)
	}
	wctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	if err := h.progress.await(wctx, req.MinOffset); err != nil {
		h.refuse(ctx, req, fmt.Sprintf("the replica has not applied log offset %d in time: ask another", req.MinOffset))
		return
	}
	select {
	case h.reading <- struct{}{}:
	case <-wctx.Done():
		return // nobody waits for it any more
	}
	page, err := h.store.Load(req, h.node)
	<-h.reading
	var bad *storage.QueryError
	switch {
	case errors.As(err, &bad):
		h.refuse(ctx, req, bad.Error())
	case err != nil:
		h.log.Error("history not read", "shard", h.shard, "error", err)
		h.refuse(ctx, req, "the replica could not read its store: ask another")
	default:
		h.put(ctx, req, page)
	}
}

// refuse answers with an error. A replica that is shutting down stays silent.
func (h *historyServer) refuse(ctx context.Context, req *eventsv1.HistoricalEventsRequested, why string) {
	_, p := h.progress.snapshot()
	page, err := proto.Marshal(&eventsv1.HistoricalEventsLoaded{
		SubscriptionId: req.SubscriptionId, RequestId: req.RequestId, ReplyTo: req.ReplyTo,
		NextVersion: req.FromVersion, NextOffset: req.AfterOffset, NextIndex: req.AfterIndex, NextStream: req.AfterStream,
		AppliedOffset: p.LogOffset, Replica: h.node, Shard: h.shard, Error: why,
	})
	if err == nil {
		h.put(ctx, req, page)
	}
}

// put hands an encoded page to the sender.
func (h *historyServer) put(ctx context.Context, req *eventsv1.HistoricalEventsRequested, page []byte) {
	r, err := h.envelope.Record(registry.HistoricalEventsLoaded, req.ReplyTo, req.ReplyPartition, nil)
	if err != nil {
		h.log.Error("history not sent", "shard", h.shard, "error", err)
		return
	}
	r.Value = page
	select {
	case h.replies <- r:
	case <-ctx.Done():
	}
}

// reply sends what is there as one call; who gets no answer asks again.
func (h *historyServer) reply(ctx context.Context) {
	for {
		var batch []bus.Record
		select {
		case r := <-h.replies:
			batch = append(batch, r)
		case <-ctx.Done():
			return
		}
		for size := len(batch[0].Value); size < mostReplyBytes; {
			select {
			case r := <-h.replies:
				batch = append(batch, r)
				size += len(r.Value)
				continue
			default:
			}
			break
		}
		if err := h.bus.Send(ctx, batch); err != nil && ctx.Err() == nil {
			h.log.Warn("history not sent, going on", "shard", h.shard, "count", len(batch), "error", err)
		}
	}
}
