package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/shared/config"
	"github.com/exesdb/exesdb/shared/runtime"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// world is a broker, a notification instance, and a store and a persistence that say what a test lets them say.
type world struct {
	t        *testing.T
	ctx      context.Context
	admin    *kadm.Client
	instance *runtime.Instance
	producer *bus.Producer
	counts   *Counts

	log      []*eventsv1.WriteCommandValidated
	lastAck  int64
	recorded []*eventsv1.RecordedEvent // what persistence has
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	redis := miniredis.RunT(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	instance, err := runtime.Open(ctx, registry.Notification, config.Common{
		StoreID: "test", Shards: 1, KafkaBrokers: cluster.ListenAddrs(), RedisAddr: redis.Addr(), AdminAddr: "127.0.0.1:0",
		Heartbeat: 100 * time.Millisecond, LeaseTTL: time.Second, LogLevel: "error", LogFormat: "text",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = instance.Close() })
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	w := &world{
		t: t, ctx: ctx, admin: kadm.NewClient(client), instance: instance, producer: bus.NewProducer(instance.Client),
		counts: NewCounts(prometheus.NewRegistry()), lastAck: -1,
	}
	t.Cleanup(func() { _ = w.producer.Close() })
	return w
}

func (w *world) append(event string, value []byte) int64 {
	w.t.Helper()
	at, err := w.producer.Append(w.ctx, w.instance.Topic(event), 0, []bus.Record{{Key: []byte("k"), Value: value}})
	if err != nil {
		w.t.Fatal(err)
	}
	return at
}

func (w *world) publish(event string, msg proto.Message) int64 {
	w.t.Helper()
	value, err := proto.Marshal(msg)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.append(event, value)
}

// write puts a write of two events into the log and acknowledges it; a second record of the log is rejected.
func (w *world) write() {
	w.t.Helper()
	n := len(w.log) / 2
	cmd := &eventsv1.WriteCommandValidated{
		Kind: eventsv1.CommandKind_COMMAND_KIND_APPEND, StreamId: "s", WriteId: fmt.Sprintf("w%d", n),
		Events: []*eventsv1.NewEvent{{EventId: fmt.Sprintf("%d/0", n), Data: []byte(`1`)}, {EventId: fmt.Sprintf("%d/1", n), Data: []byte(`2`)}},
	}
	at := w.publish(registry.WriteCommandValidated, cmd)
	rejected := &eventsv1.WriteCommandValidated{Kind: eventsv1.CommandKind_COMMAND_KIND_APPEND, StreamId: "s"}
	w.publish(registry.WriteCommandValidated, rejected)
	w.log = append(w.log, cmd, rejected)
	for i, e := range cmd.GetEvents() {
		w.recorded = append(w.recorded, &eventsv1.RecordedEvent{
			EventId: e.GetEventId(), StreamId: "s", Version: int64(2*n + i), Data: e.GetData(), LogOffset: at, Index: int32(i), CreatedAtMs: 7,
		})
	}
	w.publish(registry.WriteAcknowledged, &eventsv1.WriteAcknowledged{
		StreamId: "s", WriteId: cmd.GetWriteId(), FirstVersion: int64(2 * n), NewVersion: int64(2*n + 1), LogOffset: at,
		PreviousAcknowledgedOffset: w.lastAck, DuplicateOf: -1, Command: eventsv1.CommandKind_COMMAND_KIND_APPEND, CreatedAtMs: 7,
	})
	w.lastAck = at
}

func (w *world) writes(n int) {
	w.t.Helper()
	for range n {
		w.write()
	}
}

// gone removes the records of an event's topic, as retention does.
func (w *world) gone(event string) {
	w.t.Helper()
	topic := w.instance.Topic(event)
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, w.end(event), -1)
	deleted, err := w.admin.DeleteRecords(w.ctx, offsets)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) end(event string) int64 {
	w.t.Helper()
	_, next, err := w.instance.Client.Watermark(w.ctx, w.instance.Topic(event), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return next
}

// start runs the feed until stop.
func (w *world) start() (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan error, 1)
	go func() { ended <- NewShard(w.instance, w.counts, 0).Run(ctx) }()
	stop = func() {
		if cancel(); ended != nil {
			if err := <-ended; err != nil {
				w.t.Errorf("run: %v", err)
			}
			ended = nil
		}
	}
	w.t.Cleanup(stop)
	return stop
}

// persistence answers requests for history, two events at a time so that writes are split; the first one it declines.
func (w *world) persistence() {
	requests, err := bus.NewReader(w.instance.Client, bus.ReaderOptions{Topic: w.instance.Topic(registry.HistoricalEventsRequested), Offset: w.end(registry.HistoricalEventsRequested)})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan struct{})
	w.t.Cleanup(func() { cancel(); <-ended; _ = requests.Close() })
	recorded := slices.Clone(w.recorded)
	go func() {
		defer close(ended)
		for declined := false; ; {
			records, err := requests.Poll(ctx)
			if err != nil {
				return
			}
			for _, r := range records {
				var q eventsv1.HistoricalEventsRequested
				if err := proto.Unmarshal(r.Value, &q); err != nil {
					w.t.Error(err)
				}
				page := &eventsv1.HistoricalEventsLoaded{RequestId: q.GetRequestId(), ReplyTo: q.GetReplyTo()}
				if !declined {
					declined, page.Error = true, "ask another"
				} else {
					fillPage(page, &q, recorded)
				}
				value, err := proto.Marshal(page)
				if err == nil {
					_, err = w.producer.Append(ctx, w.instance.Topic(registry.HistoricalEventsLoaded), 0, []bus.Record{{Value: value}})
				}
				if err != nil && ctx.Err() == nil {
					w.t.Error(err)
				}
			}
		}
	}()
}

func fillPage(page *eventsv1.HistoricalEventsLoaded, q *eventsv1.HistoricalEventsRequested, recorded []*eventsv1.RecordedEvent) {
	for _, e := range recorded {
		after := e.GetLogOffset() > q.GetAfterOffset() || e.GetLogOffset() == q.GetAfterOffset() && e.GetIndex() > q.GetAfterIndex()
		if !after {
			continue
		}
		if len(page.GetEvents()) == 3 {
			page.HasMore = true
			return
		}
		page.Events = append(page.Events, e)
		page.NextOffset, page.NextIndex = e.GetLogOffset(), e.GetIndex()
	}
}

// notifications are those that the feed has now.
func (w *world) notifications() []*eventsv1.NotificationTriggered {
	w.t.Helper()
	topic := w.instance.Topic(registry.NotificationTriggered)
	oldest, next, err := w.instance.Client.Watermark(w.ctx, topic, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	reader, err := bus.NewReader(w.instance.Client, bus.ReaderOptions{Topic: topic, Offset: oldest})
	if err != nil {
		w.t.Fatal(err)
	}
	defer reader.Close()
	var all []*eventsv1.NotificationTriggered
	for oldest < next && reader.Next() < next {
		records, err := reader.Poll(w.ctx)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range records {
			n := &eventsv1.NotificationTriggered{}
			if proto.Unmarshal(r.Value, n) == nil && len(n.GetEvents()) > 0 {
				all = append(all, n)
			}
		}
	}
	return all
}

// await waits until the feed has the write of that number.
func (w *world) await(write int) []*eventsv1.NotificationTriggered {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		all := w.notifications()
		if slices.ContainsFunc(all, func(n *eventsv1.NotificationTriggered) bool { return n.GetLogOffset() == int64(2*write) }) {
			return all
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the feed has %d notifications after 10s, not that of write %d", len(all), write)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

// check checks that these are the notifications of all writes, each once, as their events were recorded.
func (w *world) check(all []*eventsv1.NotificationTriggered) {
	w.t.Helper()
	if len(all) != len(w.log)/2 {
		w.t.Errorf("%d notifications, want one for each of %d writes", len(all), len(w.log)/2)
	}
	previous := int64(-1)
	for i, n := range all {
		if n.GetLogOffset() != int64(2*i) || n.GetPreviousOffset() != previous {
			w.t.Fatalf("notification %d is of log offset %d after %d, want %d after %d", i, n.GetLogOffset(), n.GetPreviousOffset(), 2*i, previous)
		}
		previous = n.GetLogOffset()
		for k, e := range n.GetEvents() {
			if want := w.recorded[2*i+k]; !proto.Equal(e, want) {
				w.t.Errorf("event %v, want %v", e, want)
			}
		}
		if len(n.GetEvents()) != 2 || n.GetStreamId() != "s" {
			w.t.Errorf("notification %d of stream %q has %d events", i, n.GetStreamId(), len(n.GetEvents()))
		}
	}
}

func TestFeedResumesAfterItsNewestNotification(t *testing.T) {
	w := newWorld(t)
	w.writes(5)
	stop := w.start()
	w.await(4)
	stop()
	w.writes(5)
	w.start()
	w.check(w.await(9))
}

func TestFeedResumesPastAPoisonLastRecord(t *testing.T) {
	w := newWorld(t)
	w.writes(5)
	stop := w.start()
	w.await(4)
	stop()
	w.append(registry.NotificationTriggered, []byte("not protobuf \xff\xff"))
	w.append(registry.NotificationTriggered, nil)
	w.writes(5)
	w.start()
	w.check(w.await(9))
}

// TestTwoLeadersAtOnce: a consumer that drops second copies by log offset sees every write once, each naming the one before it.
func TestTwoLeadersAtOnce(t *testing.T) {
	w := newWorld(t)
	w.writes(3)
	var last [2]*eventsv1.NotificationTriggered // read by both before either publishes
	leaders := [2]*Shard{}
	for i := range leaders {
		var err error
		leaders[i] = NewShard(w.instance, w.counts, 0)
		if last[i], err = leaders[i].lastPublished(w.ctx); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range leaders {
		ctx, cancel := context.WithCancel(w.ctx)
		ended := make(chan error, 1)
		go func() { ended <- s.publish(ctx, last[i]) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("publish: %v", err)
			}
			_ = s.producer.Close()
		})
	}
	w.writes(20)
	for deadline := time.Now().Add(10 * time.Second); len(w.notifications()) < 46; {
		if time.Now().After(deadline) {
			t.Fatalf("%d notifications after 10s, want 23 of each leader", len(w.notifications()))
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
	highest := int64(-1)
	w.check(slices.DeleteFunc(w.notifications(), func(n *eventsv1.NotificationTriggered) bool {
		second := n.GetLogOffset() <= highest
		highest = max(highest, n.GetLogOffset())
		return second
	}))
}

// TestFeedReadsFromHistoryWhatIsGone: retention took acknowledgements, or bodies, or both, before the feed had them.
func TestFeedReadsFromHistoryWhatIsGone(t *testing.T) {
	for name, topics := range map[string][]string{
		"acknowledgements": {registry.WriteAcknowledged},
		"bodies":           {registry.WriteCommandValidated},
		"both":             {registry.WriteAcknowledged, registry.WriteCommandValidated},
	} {
		for _, before := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s-after-%d", name, before), func(t *testing.T) {
				w := newWorld(t)
				if before > 0 {
					w.writes(before)
					stop := w.start()
					w.await(before - 1)
					stop()
				}
				w.writes(7)
				for _, event := range topics {
					w.gone(event)
				}
				w.writes(2)
				w.persistence()
				stop := w.start()
				w.check(w.await(before + 8))
				// The next leader is no less certain.
				stop()
				w.writes(2)
				w.start()
				w.check(w.await(before + 10))
			})
		}
	}
}

// TestFeedNoticesAnAcknowledgementThatCannotBeRead: each names the one before it.
func TestFeedNoticesAnAcknowledgementThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	w.writes(2)
	w.start()
	w.await(1)
	// The third is in the log, its acknowledgement is not in the topic.
	w.publish(registry.WriteCommandValidated, &eventsv1.WriteCommandValidated{Kind: eventsv1.CommandKind_COMMAND_KIND_APPEND, StreamId: "s", WriteId: "w2"})
	w.publish(registry.WriteCommandValidated, &eventsv1.WriteCommandValidated{})
	w.log = append(w.log, nil, nil)
	for i := range 2 {
		w.recorded = append(w.recorded, &eventsv1.RecordedEvent{EventId: fmt.Sprintf("2/%d", i), StreamId: "s", Version: int64(4 + i), LogOffset: 4, Index: int32(i)})
	}
	w.append(registry.WriteAcknowledged, []byte("not protobuf \xff\xff"))
	w.lastAck = 4
	w.persistence()
	w.write()
	all := w.await(3)
	w.check(all)
	if id := all[2].GetWriteId(); id != "w2" {
		t.Errorf("write id %q, want that of the log", id)
	}
}

// TestFeedGoesOnBehindWhatIsLost: a write whose body is gone and which persistence does not show either, because a
// delete covers it: the feed goes on, counts it, and the next notification names it as the one before.
func TestFeedGoesOnBehindWhatIsLost(t *testing.T) {
	w := newWorld(t)
	w.writes(4)
	w.gone(registry.WriteCommandValidated)
	w.recorded = slices.Delete(w.recorded, 2, 6) // writes 1 and 2
	w.persistence()
	w.start()
	all := w.await(3)
	if len(all) != 2 || all[1].GetPreviousOffset() != 4 {
		t.Errorf("%d notifications, the last after %d; want 2, the last after 4", len(all), all[len(all)-1].GetPreviousOffset())
	}
	if lost := testutil.ToFloat64(w.counts.lost); lost != 2 {
		t.Errorf("%v writes are counted as lost, want 2", lost)
	}
}

// TestFeedThatExpired: everything of the feed and of the acknowledgements is older than retention. What comes is
// published, and history is not published again.
func TestFeedThatExpired(t *testing.T) {
	w := newWorld(t)
	w.writes(4)
	stop := w.start()
	w.await(3)
	stop()
	w.gone(registry.NotificationTriggered)
	w.gone(registry.WriteAcknowledged)
	w.persistence()
	w.start()
	w.writes(2)
	all := w.await(5)
	if len(all) != 2 || all[0].GetPreviousOffset() != 6 {
		t.Errorf("%d notifications, the first after %d; want 2, the first after 6", len(all), all[0].GetPreviousOffset())
	}
}
