package feed

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

const (
	// pageBytes is the most that one page of history has.
	pageBytes = 2 << 20
	// pageTimeout is how long one is awaited before it is asked for again.
	pageTimeout = 3 * time.Second
	// askAgain after a page was refused.
	askAgain = 200 * time.Millisecond
)

// Counts are the metrics of all shards' feeds.
type Counts struct {
	recovered, lost prometheus.Counter
}

// NewCounts registers them.
func NewCounts(to prometheus.Registerer) *Counts {
	c := &Counts{
		recovered: prometheus.NewCounter(prometheus.CounterOpts{Name: "exesdb_notification_read_from_history_total", Help: "Notifications whose acknowledgement or body was gone, read from persistence."}),
		lost:      prometheus.NewCounter(prometheus.CounterOpts{Name: "exesdb_notification_lost_total", Help: "Acknowledged writes that are not in the feed: neither the log nor persistence has their events."}),
	}
	to.MustRegister(c.recovered, c.lost)
	return c
}

// fill publishes the writes after the last notification, through a log offset up to which everything is acknowledged,
// out of history: retention has taken their acknowledgements or their bodies. wanted are those, in log order, that are
// known to be missing; what persistence does not have either (a delete covers it) is lost.
func (j *joiner) fill(ctx context.Context, through int64, wanted []int64) error {
	j.log.Warn("acknowledged writes are no longer in the topics, reading them from history", "after_log_offset", j.feed.Cursor(), "to_log_offset", through)
	pages, err := j.openPages(ctx)
	if err != nil {
		return err
	}
	defer pages.reader.Close()
	lost := func(before int64) {
		for len(wanted) > 0 && wanted[0] < before {
			j.counts.lost.Inc()
			j.log.Error("an acknowledged write is missing in the feed: its events are in neither the log nor the store", "log_offset", wanted[0])
			j.feed.Lose(wanted[0])
			wanted = wanted[1:]
		}
	}
	var write []*eventsv1.RecordedEvent // of one log offset, perhaps not all yet
	release := func() error {
		if len(write) == 0 {
			return nil
		}
		offset := write[0].GetLogOffset()
		lost(offset)
		if len(wanted) > 0 && wanted[0] == offset {
			wanted = wanted[1:]
		}
		if err := j.readThrough(ctx, offset); err != nil {
			return err
		}
		j.counts.recovered.Inc()
		n := j.feed.Recorded(write)
		write = nil
		return j.out.add(ctx, n)
	}
	for offset, index := j.feed.Cursor(), int32(math.MaxInt32); ; {
		page, err := pages.read(ctx, offset, index, through)
		if err != nil {
			return err
		}
		for _, e := range page.GetEvents() {
			if len(write) > 0 && e.GetLogOffset() != write[0].GetLogOffset() {
				if err := release(); err != nil {
					return err
				}
			}
			if e.GetLogOffset() > through {
				lost(through + 1)
				return nil
			}
			write = append(write, e)
		}
		if !page.GetHasMore() || page.GetNextOffset() > through {
			break
		}
		offset, index = page.GetNextOffset(), page.GetNextIndex()
	}
	if err := release(); err != nil {
		return err
	}
	lost(through + 1)
	return nil
}

// pages reads history of one shard.
type pages struct {
	shard  *Shard
	reader *bus.Reader // of the partition where the answers come
}

var requests atomic.Uint64

// openPages begins at the end of the answers, so that none to a later request is missed.
func (s *Shard) openPages(ctx context.Context) (*pages, error) {
	topic := s.instance.Topic(registry.HistoricalEventsLoaded)
	_, next, err := s.instance.Client.Watermark(ctx, topic, s.shard)
	if err != nil {
		return nil, fmt.Errorf("read the end of %s: %w", topic, err)
	}
	reader, err := bus.NewReader(s.instance.Client, bus.ReaderOptions{Topic: topic, Partition: s.shard, Offset: next})
	if err != nil {
		return nil, err
	}
	return &pages{s, reader}, nil
}

// read asks for the page after a place, complete through a log offset, until it comes or ctx is done.
func (p *pages) read(ctx context.Context, after int64, index int32, through int64) (*eventsv1.HistoricalEventsLoaded, error) {
	for {
		page, err := p.ask(ctx, after, index, through)
		if err == nil || ctx.Err() != nil {
			return page, err
		}
		p.shard.log.Warn("history for the feed not read, asking again", "after_log_offset", after, "error", err)
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (p *pages) ask(ctx context.Context, after int64, index int32, through int64) (*eventsv1.HistoricalEventsLoaded, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	me := p.shard.instance.Node()
	id := me + "/feed/" + strconv.FormatInt(time.Now().UnixNano(), 36) + "/" + strconv.FormatUint(requests.Add(1), 36)
	record, err := p.shard.instance.Record(registry.HistoricalEventsRequested, id, p.shard.shard, &eventsv1.HistoricalEventsRequested{
		RequestId: id, ReplyTo: me, ReplyPartition: p.shard.shard, Shard: p.shard.shard, DeadlineMs: deadline.UnixMilli(),
		Query: eventsv1.HistoricalEventsRequested_QUERY_ALL, AfterOffset: after, AfterIndex: index, MinOffset: through, MaxBytes: pageBytes,
	})
	if err != nil {
		return nil, err
	}
	if _, err := p.shard.producer.Append(ctx, record.Topic, record.Partition, []bus.Record{record}); err != nil {
		return nil, fmt.Errorf("ask for history of shard %d: %w", p.shard.shard, err)
	}
	for {
		records, err := p.reader.Poll(ctx)
		var gone *bus.OffsetGoneError
		if errors.As(err, &gone) {
			p.reader.SeekTo(bus.OffsetNewest)
		}
		if err != nil {
			return nil, fmt.Errorf("await history of shard %d: %w", p.shard.shard, err)
		}
		for _, r := range records {
			var page eventsv1.HistoricalEventsLoaded
			if proto.Unmarshal(r.Value, &page) != nil || page.GetRequestId() != id {
				continue // somebody else's
			}
			if page.GetError() != "" {
				return nil, fmt.Errorf("history of shard %d: %s", p.shard.shard, page.GetError())
			}
			return &page, nil
		}
	}
}
