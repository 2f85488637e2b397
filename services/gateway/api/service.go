// Package api is the public edge: the EventStore service over gRPC, and over REST
// through grpc-gateway, with our own JSON so that payloads come back byte for byte.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/exesdb/exesdb/services/gateway/core"
	"github.com/exesdb/exesdb/shared/position"
	"github.com/exesdb/exesdb/shared/shard"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Backend is the store behind the edge.
type Backend interface {
	// Start sends a write; writes go out in the order of the calls. wait returns its
	// outcome, at the latest when ctx ends, and must be called once. Errors wrap
	// core.ErrFull, core.ErrNotProduced or core.ErrNoAnswer.
	Start(ctx context.Context, w *eventsv1.StreamWriteRequested) (wait func() (core.Outcome, error), err error)
	// Read asks for one page of history; the answer is complete through the shard's
	// floor. Errors wrap core.ErrFull, core.ErrNotProduced or core.ErrNoAnswer.
	Read(ctx context.Context, q *eventsv1.HistoricalEventsRequested) (*eventsv1.HistoricalEventsLoaded, error)
	// Floor is the highest log offset of the shard that this gateway has seen; -1 is none.
	Floor(shard int32) int64
	// Changed is closed when the floor of any shard rises. Take it before Floor.
	Changed() <-chan struct{}
}

// Gate tells whether the system is ready, and what is missing if not.
type Gate interface {
	Ready() (ok bool, missing []string)
	// Readable tells whether history is served, which may go on when the system is not ready.
	Readable() bool
}

// SystemView describes the running system.
type SystemView interface {
	System() *apiv1.GetSystemResponse
}

// Options of a Service. All but Token are required.
type Options struct {
	Backend Backend
	Gate    Gate
	System  SystemView
	Shards  int32
	Limits  core.Limits
	// BodyBytes bounds the body of a REST request.
	BodyBytes int64
	// WriteTimeout and ReadTimeout are how long an answer is awaited at most.
	WriteTimeout, ReadTimeout time.Duration
	// Heartbeat is the time between heartbeats of a subscription.
	Heartbeat time.Duration
	// Token is the bearer token that every call must have; empty is none.
	Token string
	Log   *slog.Logger
}

// Service implements EventStore. Every error is a *core.Problem.
type Service struct {
	apiv1.UnimplementedEventStoreServer
	Options
	drain *drain
}

// NewService makes the service.
func NewService(o Options) *Service { return &Service{Options: o, drain: newDrain()} }

// Append implements EventStore.
func (s *Service) Append(ctx context.Context, req *apiv1.AppendRequest) (*apiv1.AppendResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.WriteTimeout)
	defer cancel()
	wait, err := s.startAppend(ctx, req)
	if err != nil {
		return nil, err
	}
	return wait()
}

// startAppend sends the append; wait returns the answer and must be called once.
func (s *Service) startAppend(ctx context.Context, req *apiv1.AppendRequest) (wait func() (*apiv1.AppendResponse, error), err error) {
	w, err := core.Append(req, s.Limits, newID(), time.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	attempt := core.AppendAttempt(w.GetStreamId(), len(w.GetEvents()))
	keyed := req.GetIdempotencyKey() != ""
	answer, err := s.Backend.Start(ctx, w)
	if err != nil {
		return nil, s.writeProblem(attempt, w, keyed, err)
	}
	return func() (*apiv1.AppendResponse, error) {
		ack, err := s.acknowledged(attempt, w, keyed, answer)
		if err != nil {
			return nil, err
		}
		return &apiv1.AppendResponse{
			StreamId: w.GetStreamId(), WriteId: w.GetWriteId(), FirstVersion: ack.GetFirstVersion(), NewVersion: ack.GetNewVersion(),
			Position: ackPosition(ack), EventIds: ack.GetEventIds(),
		}, nil
	}, nil
}

// DeleteStream implements EventStore.
func (s *Service) DeleteStream(ctx context.Context, req *apiv1.DeleteStreamRequest) (*apiv1.DeleteStreamResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.WriteTimeout)
	defer cancel()
	w, err := core.Delete(req, newID(), time.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	attempt := core.DeleteAttempt(w.GetStreamId())
	keyed := req.GetIdempotencyKey() != ""
	answer, err := s.Backend.Start(ctx, w)
	if err != nil {
		return nil, s.writeProblem(attempt, w, keyed, err)
	}
	ack, err := s.acknowledged(attempt, w, keyed, answer)
	if err != nil {
		return nil, err
	}
	return &apiv1.DeleteStreamResponse{
		StreamId: w.GetStreamId(), WriteId: w.GetWriteId(), Version: ack.GetNewVersion(), Position: ackPosition(ack),
	}, nil
}

func (s *Service) acknowledged(attempt string, w *eventsv1.StreamWriteRequested, keyed bool, wait func() (core.Outcome, error)) (*eventsv1.WriteAcknowledged, error) {
	outcome, err := wait()
	if err != nil {
		return nil, s.writeProblem(attempt, w, keyed, err)
	}
	if outcome.Rejected != nil {
		return nil, core.Rejected(attempt, outcome.Rejected)
	}
	return outcome.Acknowledged, nil
}

func (s *Service) writeProblem(attempt string, w *eventsv1.StreamWriteRequested, keyed bool, err error) error {
	var p *core.Problem
	switch {
	case errors.Is(err, core.ErrFull):
		p = core.Busy(attempt, core.Bound(err))
	case errors.Is(err, core.ErrNotProduced):
		p = core.Unavailable(attempt, "Kafka did not take the request")
	case errors.Is(err, core.ErrNoAnswer):
		p = core.OutcomeUnknown(attempt, w.GetStreamId(), w.GetWriteId(), keyed)
	default:
		p = core.Internal(attempt, err)
	}
	return p.About(w.GetStreamId()).By(err)
}

// ackPosition is the place of the last event of an acknowledged write.
func ackPosition(ack *eventsv1.WriteAcknowledged) string {
	p := position.Position{Shard: ack.GetShard(), Offset: ack.GetLogOffset(), Index: int32(max(len(ack.GetEventIds())-1, 0))} //nolint:gosec // at most 1,000 events
	if ack.GetDuplicateOf() >= 0 {
		p.Offset = ack.GetDuplicateOf()
	}
	return p.String()
}

// newID is a fresh UUIDv7: identities that are not given grow with time.
func newID() [16]byte { return uuid.Must(uuid.NewV7()) }

// ReadStream implements EventStore.
func (s *Service) ReadStream(ctx context.Context, req *apiv1.ReadStreamRequest) (*apiv1.ReadStreamResponse, error) {
	stream := req.GetStreamId()
	attempt := core.StreamAttempt("read", stream)
	q, err := s.streamQuery(attempt, stream, req.GetMinPosition())
	if err != nil {
		return nil, err
	}
	if q.Limit, err = core.PageLimit(attempt, req.GetLimit()); err != nil {
		return nil, err
	}
	switch req.GetDirection() {
	case "", "forward":
		q.FromVersion = req.GetFromVersion()
	case "backward":
		q.Backward, q.FromVersion = true, lastVersion
		if req.FromVersion != nil {
			q.FromVersion = req.GetFromVersion()
		}
	default:
		return nil, core.Malformed("%s: direction %q: want \"forward\" or \"backward\"", attempt, req.GetDirection()).About(stream)
	}
	if req.GetFromVersion() < 0 {
		return nil, core.Malformed("%s: from_version %d: want 0 or more", attempt, req.GetFromVersion()).About(stream)
	}
	page, err := s.read(ctx, attempt, q)
	if err != nil {
		return nil, err
	}
	if err := core.Live(attempt, stream, page.GetStream()); err != nil {
		return nil, err
	}
	out := &apiv1.ReadStreamResponse{
		Events: make([]*apiv1.Event, len(page.GetEvents())), StreamVersion: page.GetStream().GetVersion(),
		NextVersion: page.GetNextVersion(), HasMore: page.GetHasMore(),
	}
	for i, e := range page.GetEvents() {
		out.Events[i] = eventOut(e, core.PositionOf(e).String())
		if out.NextVersion = e.GetVersion() + 1; q.GetBackward() {
			out.NextVersion = e.GetVersion() - 1
		}
	}
	return out, nil
}

// lastVersion is above every version: a backward read from it starts at the last.
const lastVersion = 1<<63 - 1

// GetStream implements EventStore.
func (s *Service) GetStream(ctx context.Context, req *apiv1.GetStreamRequest) (*apiv1.GetStreamResponse, error) {
	stream := req.GetStreamId()
	attempt := core.StreamAttempt("get", stream)
	q, err := s.streamQuery(attempt, stream, req.GetMinPosition())
	if err != nil {
		return nil, err
	}
	q.Query, q.Limit = eventsv1.HistoricalEventsRequested_QUERY_HEAD, 1
	page, err := s.read(ctx, attempt, q)
	if err != nil {
		return nil, err
	}
	if err := core.Live(attempt, stream, page.GetStream()); err != nil {
		return nil, err
	}
	return streamOut(page.GetStream()), nil
}

// streamQuery begins a query of one stream.
func (s *Service) streamQuery(attempt, stream, minPosition string) (*eventsv1.HistoricalEventsRequested, error) {
	if err := core.StreamID(attempt, stream); err != nil {
		return nil, err
	}
	least, err := core.CursorIn(attempt, "min_position", minPosition, s.Shards)
	if err != nil {
		return nil, err
	}
	in := shard.Of(stream, s.Shards)
	return &eventsv1.HistoricalEventsRequested{
		Query: eventsv1.HistoricalEventsRequested_QUERY_STREAM, StreamId: stream, Shard: in,
		MinOffset: least.At(in).Offset, AfterOffset: -1, AfterIndex: -1, MaxBytes: s.Limits.PageBytes,
	}, nil
}

// ListStreams implements EventStore.
func (s *Service) ListStreams(ctx context.Context, req *apiv1.ListStreamsRequest) (*apiv1.ListStreamsResponse, error) {
	const attempt = "list streams"
	limit, err := core.PageLimit(attempt, req.GetLimit())
	if err != nil {
		return nil, err
	}
	after, err := core.ParsePageToken(attempt, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if p := req.GetPrefix(); p != "" {
		if err := core.StreamID(attempt+": prefix", p); err != nil {
			return nil, err
		}
	}
	pages, err := s.readShards(ctx, attempt, s.allShards(), func(int32) *eventsv1.HistoricalEventsRequested {
		return &eventsv1.HistoricalEventsRequested{
			Query: eventsv1.HistoricalEventsRequested_QUERY_STREAMS, AfterStream: after, Limit: limit,
			Selector: &eventsv1.Selector{StreamPrefix: req.GetPrefix()}, MinOffset: -1, AfterOffset: -1, AfterIndex: -1,
		}
	})
	if err != nil {
		return nil, err
	}
	streams, next := core.MergeStreams(pages, int(limit))
	out := &apiv1.ListStreamsResponse{Streams: make([]*apiv1.GetStreamResponse, len(streams)), NextPageToken: core.PageToken(next)}
	for i, info := range streams {
		out.Streams[i] = streamOut(info)
	}
	return out, nil
}

// ReadAll implements EventStore.
func (s *Service) ReadAll(ctx context.Context, req *apiv1.ReadAllRequest) (*apiv1.ReadAllResponse, error) {
	const attempt = "read all streams"
	limit, err := core.PageLimit(attempt, req.GetLimit())
	if err != nil {
		return nil, err
	}
	from, err := core.CursorIn(attempt, "from_position", req.GetFromPosition(), s.Shards)
	if err != nil {
		return nil, err
	}
	least, err := core.CursorIn(attempt, "min_position", req.GetMinPosition(), s.Shards)
	if err != nil {
		return nil, err
	}
	want, err := selection(attempt, req.GetEventType(), req.GetTag(), req.GetStreamPrefix())
	if err != nil {
		return nil, err
	}
	page, err := s.readAll(ctx, attempt, allQuery{from: from, least: least, shards: s.allShards(), limit: limit, selector: want})
	if err != nil {
		return nil, err
	}
	out := &apiv1.ReadAllResponse{Events: make([]*apiv1.Event, len(page.events)), NextPosition: page.next.String(), HasMore: page.more}
	for i, e := range page.events {
		out.Events[i] = eventOut(e.Event, e.After.String())
	}
	return out, nil
}

// GetSystem implements EventStore.
func (s *Service) GetSystem(context.Context, *apiv1.GetSystemRequest) (*apiv1.GetSystemResponse, error) {
	return s.System.System(), nil
}

func selection(attempt string, types, tags []string, prefix string) (*eventsv1.Selector, error) {
	if err := core.Filter(attempt, types, tags); err != nil {
		return nil, err
	}
	if prefix != "" {
		if err := core.StreamID(attempt+": stream_prefix", prefix); err != nil {
			return nil, err
		}
	}
	return &eventsv1.Selector{EventTypes: types, TagsAll: tags, StreamPrefix: prefix}, nil
}

// allQuery is a read over several shards.
type allQuery struct {
	from, least position.Cursor
	shards      []int32
	limit       int32
	selector    *eventsv1.Selector
	// now asks where the log ends: from is past everything.
	now bool
}

// allPage is its answer.
type allPage struct {
	events []core.Placed
	next   position.Cursor
	more   bool
	// through is, per shard of the query, the log offset that the replica had applied.
	through map[int32]int64
}

func (s *Service) readAll(ctx context.Context, attempt string, q allQuery) (allPage, error) {
	pages, err := s.readShards(ctx, attempt, q.shards, func(in int32) *eventsv1.HistoricalEventsRequested {
		at := q.from.At(in)
		least := max(q.least.At(in).Offset, at.Offset)
		if q.now {
			least = -1
		}
		return &eventsv1.HistoricalEventsRequested{
			Query: eventsv1.HistoricalEventsRequested_QUERY_ALL, AfterOffset: at.Offset, AfterIndex: at.Index,
			MinOffset: least, Limit: q.limit, Selector: q.selector,
		}
	})
	if err != nil {
		return allPage{}, err
	}
	page := allPage{through: map[int32]int64{}}
	for _, p := range pages {
		page.through[p.GetShard()] = p.GetAppliedOffset()
	}
	page.events, page.next, page.more = core.MergeEvents(q.from, pages, int(q.limit), s.Limits.PageBytes)
	return page, nil
}

func (s *Service) allShards() []int32 {
	all := make([]int32, s.Shards)
	for i := range all {
		all[i] = int32(i) //nolint:gosec // at most 1,024 shards
	}
	return all
}

// readShards asks every shard at the same time.
func (s *Service) readShards(ctx context.Context, attempt string, shards []int32, query func(shard int32) *eventsv1.HistoricalEventsRequested) ([]*eventsv1.HistoricalEventsLoaded, error) {
	pages := make([]*eventsv1.HistoricalEventsLoaded, len(shards))
	one := func(ctx context.Context, i int) (err error) {
		q := query(shards[i])
		q.Shard, q.MaxBytes = shards[i], s.Limits.PageBytes
		pages[i], err = s.read(ctx, attempt, q)
		return err
	}
	if len(shards) == 1 {
		return pages, one(ctx, 0)
	}
	g, gctx := errgroup.WithContext(ctx)
	for i := range shards {
		g.Go(func() error { return one(gctx, i) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return pages, nil
}

func (s *Service) read(ctx context.Context, attempt string, q *eventsv1.HistoricalEventsRequested) (*eventsv1.HistoricalEventsLoaded, error) {
	ctx, cancel := context.WithTimeout(ctx, s.ReadTimeout)
	defer cancel()
	page, err := s.Backend.Read(ctx, q)
	switch {
	case errors.Is(err, core.ErrFull):
		return nil, core.Busy(attempt, core.Bound(err)).By(err)
	case errors.Is(err, core.ErrNotProduced):
		return nil, core.Unavailable(attempt, "Kafka did not take the request").By(err)
	case errors.Is(err, core.ErrNoAnswer):
		return nil, core.ReadTimeout(attempt).By(err)
	case err != nil:
		return nil, core.Internal(attempt, err)
	case page.GetError() != "":
		return nil, core.Unavailable(attempt, "replica "+page.GetReplica()+" says: "+page.GetError()).By(fmt.Errorf("read shard %d: %s", q.GetShard(), page.GetError()))
	}
	return page, nil
}

func eventOut(e *eventsv1.RecordedEvent, position string) *apiv1.Event {
	return &apiv1.Event{
		EventId: e.GetEventId(), EventType: e.GetEventType(), StreamId: e.GetStreamId(), Version: e.GetVersion(), Position: position,
		Data: e.GetData(), Binary: e.GetBinary(), Metadata: e.GetMetadata(), Tags: e.GetTags(), CreatedAtMs: e.GetCreatedAtMs(),
	}
}

func streamOut(info *eventsv1.StreamInfo) *apiv1.GetStreamResponse {
	return &apiv1.GetStreamResponse{StreamId: info.GetStreamId(), Version: info.GetVersion(), Count: info.GetCount()}
}
