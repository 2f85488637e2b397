package api

import (
	"context"
	"errors"
	"math"
	"time"

	"google.golang.org/grpc"

	"github.com/exesdb/exesdb/services/gateway/core"
	"github.com/exesdb/exesdb/shared/position"
	"github.com/exesdb/exesdb/shared/shard"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// followPage is how many events a subscription reads at once at most.
const followPage = 1000

// sink takes the frames of a subscription. Flush ends a group of them.
type sink interface {
	Send(frame *apiv1.SubscribeResponse) error
	Flush() error
}

// Subscribe implements EventStore.
func (s *Service) Subscribe(req *apiv1.SubscribeRequest, stream grpc.ServerStreamingServer[apiv1.SubscribeResponse]) error {
	return s.follow(stream.Context(), req, grpcSink{stream})
}

type grpcSink struct {
	grpc.ServerStreamingServer[apiv1.SubscribeResponse]
}

func (grpcSink) Flush() error { return nil }

// source reads what comes next in a subscription.
type source interface {
	// next is one page after what was read before; through is how far the replica
	// had applied the log of each shard that was asked.
	next(ctx context.Context) (allPage, error)
	// behind tells whether the floor shows more than was read.
	behind() bool
	// cursor is the place up to which everything was read.
	cursor() position.Cursor
}

// follow sends what the client asks for from its position on, then goes on live:
// it reads again whenever the floor rises, and at no other time. The client's
// flow control is its backpressure: it reads no page before the last one is sent.
func (s *Service) follow(ctx context.Context, req *apiv1.SubscribeRequest, to sink) error {
	from, err := s.source(ctx, req)
	if err != nil {
		return err
	}
	beat := time.NewTicker(s.Heartbeat)
	defer beat.Stop()
	live := false
	for first := true; ; first = false {
		changed := s.Backend.Changed()
		for more := first || from.behind(); more; {
			page, err := from.next(ctx)
			if err != nil {
				return err
			}
			more = page.more
			if live && more { // more than a page behind
				live = false
				if err := to.Send(marker(fellBehind, from.cursor())); err != nil {
					return err
				}
			}
			for _, e := range page.events {
				frame := &apiv1.SubscribeResponse_Event{Event: eventOut(e.Event, e.After.String())}
				if err := to.Send(&apiv1.SubscribeResponse{Frame: frame}); err != nil {
					return err
				}
			}
			if !more && !live {
				live = true
				if err := to.Send(marker(caughtUp, from.cursor())); err != nil {
					return err
				}
			}
			if err := to.Flush(); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-beat.C:
			if err := errors.Join(to.Send(marker(heartbeat, from.cursor())), to.Flush()); err != nil {
				return err
			}
		case <-s.drain.stopping:
			return nil // the client goes on elsewhere from its last position
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type markerKind int

const (
	caughtUp markerKind = iota
	fellBehind
	heartbeat
)

func marker(kind markerKind, at position.Cursor) *apiv1.SubscribeResponse {
	m := &apiv1.Marker{Position: at.String()}
	switch kind {
	case caughtUp:
		return &apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_CaughtUp{CaughtUp: m}}
	case fellBehind:
		return &apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_FellBehind{FellBehind: m}}
	default:
		return &apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_Heartbeat{Heartbeat: m}}
	}
}

// source checks the request and finds where to start.
func (s *Service) source(ctx context.Context, req *apiv1.SubscribeRequest) (source, error) {
	attempt := "subscribe to all streams"
	if req.GetStream() != "" {
		attempt = core.StreamAttempt("subscribe to", req.GetStream())
		if err := core.StreamID(attempt, req.GetStream()); err != nil {
			return nil, err
		}
		if req.GetStreamPrefix() != "" {
			return nil, core.Malformed("%s: stream and stream_prefix are both set: want one of them", attempt)
		}
	}
	want, err := selection(attempt, req.GetEventType(), req.GetTag(), req.GetStreamPrefix())
	if err != nil {
		return nil, err
	}
	from, token := position.Cursor{}, req.GetFrom()
	if token != "" && token != "start" && token != "now" {
		if from, err = core.CursorIn(attempt, `from (want "start", "now" or a position)`, token, s.Shards); err != nil {
			return nil, err
		}
	}
	if req.GetStream() != "" {
		return s.streamSource(ctx, attempt, req, from, token == "now")
	}
	all := &allSource{service: s, attempt: attempt, selector: want, at: from, through: map[int32]int64{}, due: s.allShards()}
	if token == "now" {
		page, err := s.readAll(ctx, attempt, allQuery{from: ends(s.allShards()), shards: s.allShards(), limit: 1, selector: want, now: true})
		if err != nil {
			return nil, err
		}
		for in, applied := range page.through {
			all.at = all.at.With(position.End(in, applied))
		}
	}
	return all, nil
}

// ends is past every event.
func ends(shards []int32) position.Cursor {
	var c position.Cursor
	for _, in := range shards {
		c = c.With(position.End(in, math.MaxInt64-1))
	}
	return c
}

// allSource reads all streams.
type allSource struct {
	service  *Service
	attempt  string
	selector *eventsv1.Selector
	at       position.Cursor
	through  map[int32]int64 // per shard, what was read up to
	due      []int32         // shards with more to read
}

func (a *allSource) cursor() position.Cursor { return a.at }

func (a *allSource) behind() bool {
	a.due = a.due[:0]
	for in := range a.service.Shards {
		if a.service.Backend.Floor(in) > a.through[in] {
			a.due = append(a.due, in)
		}
	}
	return len(a.due) > 0
}

func (a *allSource) next(ctx context.Context) (allPage, error) {
	page, err := a.service.readAll(ctx, a.attempt, allQuery{from: a.at, shards: a.due, limit: followPage, selector: a.selector})
	if err != nil {
		return page, err
	}
	a.at = page.next
	if !page.more {
		for in, applied := range page.through {
			a.through[in] = applied
		}
	}
	return page, nil
}

// streamSource reads one stream.
type streamSource struct {
	service *Service
	attempt string
	req     *apiv1.SubscribeRequest
	shard   int32
	version int64 // the next to be read
	at      position.Cursor
	through int64
}

func (s *Service) streamSource(ctx context.Context, attempt string, req *apiv1.SubscribeRequest, from position.Cursor, now bool) (source, error) {
	src := &streamSource{service: s, attempt: attempt, req: req, shard: shard.Of(req.GetStream(), s.Shards), at: from, through: -1}
	after := from.At(src.shard)
	if !now && after.Offset < 0 {
		return src, nil
	}
	head, err := src.page(ctx, eventsv1.HistoricalEventsRequested_QUERY_HEAD, 0, 1, after.Offset)
	if err != nil {
		return nil, err
	}
	src.version = head.GetStream().GetVersion() + 1
	if head.GetStream() == nil {
		src.version = 0
	}
	if now {
		src.at = src.at.With(position.End(src.shard, head.GetAppliedOffset()))
		return src, nil
	}
	if err := src.seek(ctx, head.GetStream(), after); err != nil {
		return nil, err
	}
	return src, nil
}

// seek finds the first version after the position. Positions grow with versions,
// so it halves, beginning at the head, which is what a client that was there
// a moment ago needs.
func (s *streamSource) seek(ctx context.Context, head *eventsv1.StreamInfo, after position.Position) error {
	low, high := head.GetFirstVersion(), head.GetVersion()+1
	for probe := high - 1; low < high; probe = low + (high-low)/2 {
		page, err := s.page(ctx, eventsv1.HistoricalEventsRequested_QUERY_STREAM, probe, 1, after.Offset)
		if err != nil {
			return err
		}
		if len(page.GetEvents()) > 0 && core.PositionOf(page.GetEvents()[0]).Compare(after) <= 0 {
			low = probe + 1
		} else {
			high = probe
		}
	}
	s.version = low
	return nil
}

func (s *streamSource) page(ctx context.Context, query eventsv1.HistoricalEventsRequested_Query, from int64, limit int32, least int64) (*eventsv1.HistoricalEventsLoaded, error) {
	page, err := s.service.read(ctx, s.attempt, &eventsv1.HistoricalEventsRequested{
		Query: query, StreamId: s.req.GetStream(), Shard: s.shard, FromVersion: from, Limit: limit,
		MinOffset: least, AfterOffset: -1, AfterIndex: -1, MaxBytes: s.service.Limits.PageBytes,
	})
	if err == nil && page.GetStream().GetState() == eventsv1.StreamState_STREAM_STATE_TOMBSTONED {
		err = core.Tombstoned(s.attempt, s.req.GetStream())
	}
	return page, err
}

func (s *streamSource) cursor() position.Cursor { return s.at }

func (s *streamSource) behind() bool { return s.service.Backend.Floor(s.shard) > s.through }

func (s *streamSource) next(ctx context.Context) (allPage, error) {
	page, err := s.page(ctx, eventsv1.HistoricalEventsRequested_QUERY_STREAM, s.version, followPage, -1)
	if err != nil {
		return allPage{}, err
	}
	var out allPage
	for _, e := range page.GetEvents() {
		s.version = e.GetVersion() + 1
		s.at = s.at.With(core.PositionOf(e))
		if core.Selects(e, s.req.GetEventType(), s.req.GetTag()) {
			out.events = append(out.events, core.Placed{Event: e, After: s.at})
		}
	}
	out.more = page.GetHasMore() && len(page.GetEvents()) > 0
	if !out.more {
		s.through = page.GetAppliedOffset()
		if end := position.End(s.shard, s.through); end.Compare(s.at.At(s.shard)) > 0 {
			s.at = s.at.With(end)
		}
	}
	out.next = s.at
	return out, nil
}
