package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/acceptance/history"
	"github.com/exesdb/exesdb/acceptance/load"
	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/bus"
)

// path are the topics of scenario 3, and those that the stages keep their place in.
var path = []string{
	registry.StreamWriteRequested, registry.WriteCommandValidated, registry.PersistenceWriteStarted, registry.EventsPersisted,
	registry.ReplicationRequired, registry.EventsReplicated, registry.WriteAcknowledged, registry.WriteRejected,
	registry.NotificationTriggered, registry.ShardAcknowledged, registry.HistoricalEventsRequested, registry.HistoricalEventsLoaded,
	registry.NodeHeartbeat, registry.SubsystemReady, registry.SubsystemStarting, registry.SystemReady, registry.KhepriLeaderChanged,
}

// TestPoisonRecords: bytes that are no event, on every topic of the path: the services stay up, and appends and notifications go on.
func TestPoisonRecords(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted-%v", restarted), func(t *testing.T) {
			s := harness.Up(t, harness.Options{})
			topics := s.Topics()
			poison := []bus.Record{
				{Key: []byte("poison"), Value: []byte("this is not protobuf \xff\xff\xff")},
				{Key: []byte("poison"), Value: []byte{}},
				{Key: []byte("poison"), Value: nil},
				{Key: []byte("poison"), Value: []byte{0xf8, 0x7f, 1}}, // a message with one unknown field
				{Key: nil, Value: make([]byte, 1000)},
			}
			for i, event := range path {
				stream := fmt.Sprintf("before-%d", i)
				oneEffect(t, s, stream, "k")
				if t.Failed() {
					t.FailNow()
				}
				for p := range topics.Partitions(event) {
					for _, r := range poison {
						if r.Key == nil && registry.Must(event).Retention.Compacted() {
							continue // a broker refuses it
						}
						if err := topics.Produce(event, p, r); err != nil {
							t.Fatal(err)
						}
					}
				}
				if restarted {
					continue
				}
				if !t.Run(event, func(t *testing.T) { oneEffect(t, s, fmt.Sprintf("after-%d", i), "k") }) {
					break
				}
			}
			if restarted {
				s.All.Kill9()
				s.All.Start()
				s.AwaitReady(30 * time.Second)
			}
			l := load.Start(t, s, load.Options{Seed: harness.Seed(t), MostOps: 300})
			l.AwaitFull(30 * time.Second)
			ops, _ := l.Check()
			load.CheckFeed(t, s, ops)
			s.StillUp()
		})
	}
}

// TestEveryRecordDeliveredAgain: what the stages said is said again, in its old order, while they run and before they start.
func TestEveryRecordDeliveredAgain(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted-%v", restarted), func(t *testing.T) {
			s := harness.Up(t, harness.Options{})
			topics := s.Topics()
			l := load.Start(t, s, load.Options{Seed: harness.Seed(t), MostOps: 600})
			l.AwaitFull(30 * time.Second)
			ops, before := l.Check()
			load.CheckFeed(t, s, ops)
			for _, event := range path {
				if event == registry.HistoricalEventsRequested {
					continue // a read; its answer is another record each time
				}
				for p := range topics.Partitions(event) {
					if err := topics.Produce(event, p, topics.Read(event, p)...); err != nil {
						t.Fatal(err)
					}
				}
			}
			if restarted {
				s.All.Kill9()
				s.All.Start()
				s.AwaitReady(30 * time.Second)
			}
			oneEffect(t, s, "after", "k")
			after := load.Read(t, s, "s")
			if err := history.CheckFinal(ops, after); err != nil {
				t.Errorf("after the second delivery: %v", err)
			}
			if len(after.All) != len(before.All) {
				t.Errorf("%d events, before %d", len(after.All), len(before.All))
			}
			s.StillUp()
			more := load.Start(t, s, load.Options{Seed: harness.Seed(t), MostOps: 300, Prefix: "more"})
			more.AwaitFull(30 * time.Second)
			moreOps, _ := more.Check()
			load.CheckFeed(t, s, append(ops, moreOps...))
		})
	}
}
