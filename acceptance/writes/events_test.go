package writes

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/acceptance/load"
	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/shared/shard"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// TestEventsOfScenario3: one append; each event of the scenario is on its topic, in
// the shard of its stream, with its fields and its envelope, and none is there before the one that causes it.
func TestEventsOfScenario3(t *testing.T) {
	s := harness.Up(t, harness.Options{Shards: 4})
	topics := s.Topics()
	const stream = "scenario-3"
	in := events(2)
	in[0].EventID, in[1].EventID = "e-0", "e-1"
	answer := mustAppend(t, s.REST, stream, harness.NoStream, "key", in...)

	find := func(event string, isIt func(proto.Message) bool) (bus.Record, proto.Message) {
		var found bus.Record
		var value proto.Message
		harness.Eventually(t, 10*time.Second, event+" is on its topic", func() error {
			for p := range topics.Partitions(event) {
				for _, r := range topics.Read(event, p) {
					m := registry.Must(event).Message()
					if proto.Unmarshal(r.Value, m) == nil && isIt(m) {
						found, value = r, m
						return nil
					}
				}
			}
			return fmt.Errorf("not there")
		})
		envelope, err := bus.ParseEvent(found.Headers)
		if err != nil {
			t.Errorf("%s: %v", event, err)
		}
		if envelope.Type != event || envelope.ID == "" || envelope.StoreID != s.StoreID || envelope.Node == "" || envelope.Source == "" || envelope.Incarnation == 0 || envelope.Sequence == 0 || envelope.Time.IsZero() {
			t.Errorf("%s: envelope %+v", event, envelope)
		}
		if found.Header(bus.HeaderContentType) != bus.ContentTypeProtobuf {
			t.Errorf("%s: content type %q", event, found.Header(bus.HeaderContentType))
		}
		if want := shard.Of(stream, 4); found.Partition != want || string(found.Key) != stream {
			t.Errorf("%s: in partition %d with key %q, want %d and the stream", event, found.Partition, found.Key, want)
		}
		return found, value
	}

	_, m := find(registry.StreamWriteRequested, func(m proto.Message) bool { return m.(*eventsv1.StreamWriteRequested).GetStreamId() == stream })
	requested := m.(*eventsv1.StreamWriteRequested)
	if requested.GetWriteId() != answer.WriteID || len(requested.GetEvents()) != 2 || string(requested.GetEvents()[1].GetData()) != `{"i":1}` || requested.GetExpectedVersion() != -1 || requested.GetReplyTo() == "" {
		t.Errorf("stream_write_requested: %v", requested)
	}
	command, m := find(registry.WriteCommandValidated, func(m proto.Message) bool {
		return m.(*eventsv1.WriteCommandValidated).GetWriteId() == answer.WriteID
	})
	validated := m.(*eventsv1.WriteCommandValidated)
	if validated.GetStreamId() != stream || len(validated.GetEvents()) != 2 || validated.GetSeq() < 1 || validated.GetTerm() < 0 || validated.GetKind() != eventsv1.CommandKind_COMMAND_KIND_APPEND {
		t.Errorf("write_command_validated: %v", validated)
	}
	_, m = find(registry.PersistenceWriteStarted, func(m proto.Message) bool {
		return m.(*eventsv1.PersistenceWriteStarted).GetWriteId() == answer.WriteID
	})
	started := m.(*eventsv1.PersistenceWriteStarted)
	if started.GetStreamId() != stream || len(started.GetEvents()) != 2 || started.GetEvents()[0].GetEventId() != "e-0" || started.GetLogOffset() != command.Offset {
		t.Errorf("persistence_write_started: %v", started)
	}
	_, m = find(registry.EventsPersisted, func(m proto.Message) bool {
		return m.(*eventsv1.EventsPersisted).GetWriteId() == answer.WriteID
	})
	persisted := m.(*eventsv1.EventsPersisted)
	if persisted.GetStreamId() != stream || persisted.GetNewVersion() != 1 || !slices.Equal(persisted.GetEventIds(), []string{"e-0", "e-1"}) || persisted.GetOutcome().GetLogOffset() != command.Offset || persisted.GetOutcome().GetKind() != eventsv1.OutcomeKind_OUTCOME_KIND_APPLIED {
		t.Errorf("events_persisted: %v", persisted)
	}
	_, m = find(registry.WriteAcknowledged, func(m proto.Message) bool {
		return m.(*eventsv1.WriteAcknowledged).GetWriteId() == answer.WriteID
	})
	acknowledged := m.(*eventsv1.WriteAcknowledged)
	if acknowledged.GetStreamId() != stream || acknowledged.GetNewVersion() != 1 || acknowledged.GetFirstVersion() != 0 || acknowledged.GetLogOffset() != command.Offset || acknowledged.GetReplyTo() != requested.GetReplyTo() {
		t.Errorf("write_acknowledged: %v", acknowledged)
	}
	_, m = find(registry.NotificationTriggered, func(m proto.Message) bool {
		return m.(*eventsv1.NotificationTriggered).GetWriteId() == answer.WriteID
	})
	notified := m.(*eventsv1.NotificationTriggered)
	if notified.GetStreamId() != stream || len(notified.GetEvents()) != 2 || notified.GetEvents()[1].GetVersion() != 1 || string(notified.GetEvents()[1].GetData()) != `{"i":1}` || notified.GetLogOffset() != command.Offset || notified.GetEvents()[0].GetCreatedAtMs() == 0 {
		t.Errorf("notification_triggered: %v", notified)
	}
	// A refused write ends in write_rejected and in no notification.
	expected := int64(7)
	if _, err := s.REST.Append(t.Context(), harness.Append{Stream: stream, Expected: &expected, Key: "refused", Events: events(1)}); harness.Status(err) != http.StatusPreconditionFailed {
		t.Fatal(err)
	}
	_, m = find(registry.WriteRejected, func(m proto.Message) bool { return m.(*eventsv1.WriteRejected).GetStreamId() == stream })
	rejected := m.(*eventsv1.WriteRejected)
	if rejected.GetReason() != eventsv1.RejectReason_REJECT_REASON_WRONG_EXPECTED_VERSION || rejected.GetActualVersion() != 1 || rejected.GetExpectedVersion() != 7 || rejected.GetLogOffset() <= command.Offset {
		t.Errorf("write_rejected: %v", rejected)
	}
}

// TestEventsOfAStreamAreInOrder: on every topic of the path the writes of a stream are in the order of the log.
func TestEventsOfAStreamAreInOrder(t *testing.T) {
	s := harness.Up(t, harness.Options{Shards: 4})
	l := load.Start(t, s, load.Options{Seed: harness.Seed(t), MostOps: 600})
	l.AwaitFull(30 * time.Second)
	l.Check()
	topics := s.Topics()
	for event, offset := range map[string]func(proto.Message) int64{
		registry.PersistenceWriteStarted: func(m proto.Message) int64 { return m.(*eventsv1.PersistenceWriteStarted).GetLogOffset() },
		registry.EventsPersisted:         func(m proto.Message) int64 { return m.(*eventsv1.EventsPersisted).GetOutcome().GetLogOffset() },
		registry.WriteAcknowledged:       func(m proto.Message) int64 { return m.(*eventsv1.WriteAcknowledged).GetLogOffset() },
		registry.WriteRejected:           func(m proto.Message) int64 { return m.(*eventsv1.WriteRejected).GetLogOffset() },
		registry.NotificationTriggered:   func(m proto.Message) int64 { return m.(*eventsv1.NotificationTriggered).GetLogOffset() },
	} {
		for p := range topics.Partitions(event) {
			last := int64(-1)
			for _, r := range topics.Read(event, p) {
				m := registry.Must(event).Message()
				if err := proto.Unmarshal(r.Value, m); err != nil {
					t.Fatal(err)
				}
				if at := offset(m); at < last {
					t.Errorf("%s/%d: log offset %d comes after %d", event, p, at, last)
				} else {
					last = at
				}
			}
		}
	}
}

// TestNotificationsAreInLogOrder: every acknowledged append is notified exactly once and
// in the order of the log, also when the notification service and the store are killed.
func TestNotificationsAreInLogOrder(t *testing.T) {
	s := harness.Apart(t, harness.Options{Args: []string{"--heartbeat", "100ms", "--lease-ttl", "500ms"}})
	l := load.Start(t, s, load.Options{Seed: harness.Seed(t)})
	for _, node := range []string{"notification-0", "store-0", "notification-0"} {
		l.AwaitMore(100, 30*time.Second)
		s.Services[node].Kill9()
		s.Services[node].Start()
		s.AwaitNodeReady(node, 30*time.Second)
	}
	l.AwaitMore(100, 30*time.Second)
	ops, _ := l.Check()
	load.CheckFeed(t, s, ops)
}

// TestReplicationPolicies: majority, all and a number are accepted; what cannot be is refused with the flag's name.
func TestReplicationPolicies(t *testing.T) {
	for _, policy := range []string{"majority", "all", "1"} {
		t.Run(policy, func(t *testing.T) {
			s := harness.Apart(t, harness.Options{ServiceArgs: map[registry.System][]string{registry.Store: {"--acknowledge", policy}}})
			mustAppend(t, s.REST, "policy", harness.NoStream, "", events(1)...)
		})
	}
	// Two replicas, and only one is there: `all` waits, 1 does not.
	for policy, want := range map[string]int{"all": http.StatusGatewayTimeout, "1": http.StatusOK} {
		t.Run("one of two with "+policy, func(t *testing.T) {
			s := harness.Apart(t, harness.Options{ServiceArgs: map[registry.System][]string{
				registry.Store: {"--replicas", "2", "--acknowledge", policy}, registry.Persistence: {"--replicas", "2"},
				registry.Gateway: {"--write-timeout", "700ms"},
			}})
			_, err := s.REST.Append(t.Context(), harness.Append{Stream: "policy", Key: "k", Events: events(1)})
			if harness.Status(err) != want {
				t.Fatalf("%v, want %d", err, want)
			}
			if want == http.StatusOK {
				return
			}
			// The second replica comes: what waited is acknowledged.
			p := s.Prepare(registry.Persistence, 1, harness.Options{Args: []string{"--replicas", "2"}})
			p.Start()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			a, _, err := harness.AppendUntilKnown(ctx, s.REST, harness.Append{Stream: "policy", Key: "k", Events: events(1)})
			if err != nil || a.NewVersion != 0 {
				t.Errorf("with both replicas: %+v %v", a, err)
			}
		})
	}
}

// TestFloodedGatewayAnswers429: beyond its bound a gateway refuses, at once, and what it takes is answered.
func TestFloodedGatewayAnswers429(t *testing.T) {
	s := harness.Apart(t, harness.Options{ServiceArgs: map[registry.System][]string{registry.Gateway: {"--max-writes", "2"}}})
	var mu sync.Mutex
	statuses := map[int]int{}
	var taken atomic.Int64
	var clients sync.WaitGroup
	for c := range 16 {
		clients.Go(func() {
			for i := range 20 {
				a, err := s.REST.Append(t.Context(), harness.Append{Stream: fmt.Sprintf("flood-%d", c), Key: fmt.Sprint(i), Events: events(1)})
				mu.Lock()
				statuses[harness.Status(err)]++
				mu.Unlock()
				if err == nil {
					taken.Add(a.NewVersion - a.FirstVersion + 1)
				}
				if p, ok := err.(*harness.Problem); ok && (p.RetryAfter < 1 || p.Header.Get("Retry-After") == "") { //nolint:errorlint // unwrapped
					t.Errorf("no Retry-After: %v", p)
				}
			}
		})
	}
	clients.Wait()
	for _, status := range slices.Collect(maps.Keys(statuses)) {
		if status != http.StatusOK && status != http.StatusTooManyRequests {
			t.Errorf("%d answers with status %d", statuses[status], status)
		}
	}
	if statuses[http.StatusTooManyRequests] == 0 || statuses[http.StatusOK] == 0 {
		t.Errorf("answers by status: %v, want 200 and 429", statuses)
	}
	all, err := s.REST.ReadAll(t.Context(), "stream_prefix=flood-")
	if err != nil || int64(len(all)) != taken.Load() {
		t.Errorf("%d events in the store, %d were acknowledged, %v", len(all), taken.Load(), err)
	}
}
