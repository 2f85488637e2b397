package faults

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/acceptance/history"
	"github.com/exesdb/exesdb/acceptance/load"
	"github.com/exesdb/exesdb/contracts/registry"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// quick makes a frozen process lose its leases soon.
var quick = []string{"--heartbeat", "100ms", "--lease-ttl", "500ms"}

// TestAcknowledgementsGoneForAGateway: a gateway is frozen while others write, and wakes when the acknowledgements of
// what its own clients wait for are no longer in the topic. They hear that the outcome is unknown, the retry gets the
// answer, and the gateway goes on.
func TestAcknowledgementsGoneForAGateway(t *testing.T) {
	t.Parallel()
	o := harness.Options{Shards: 2, Args: quick, ServiceArgs: map[registry.System][]string{registry.Gateway: {"--write-timeout", "3s"}}}
	s := harness.PrepareApart(t, o)
	s.Prepare(registry.Gateway, 1, o)
	for _, p := range s.Services {
		p.Start()
	}
	s.AwaitReady(30 * time.Second)
	s.AwaitNodeReady("gateway-1", 30*time.Second)
	topics, other := s.Topics(), s.Through("gateway-1")
	before := load.Start(t, s, load.Options{Seed: harness.Seed(t), MostOps: 200, Prefix: "before"})
	before.AwaitFull(30 * time.Second)
	opsBefore, _ := before.Check()

	// What waits at the gateway is in the topic of requests, and nothing decides it before the gateway is frozen.
	s.Services["store-0"].Pause()
	const clients = 16
	answers := make(chan error, clients)
	for i := range clients {
		go func() {
			_, err := s.REST.Append(t.Context(), one(fmt.Sprintf("waits-%d", i), "k"))
			answers <- err
		}()
	}
	for i := range clients {
		requested(t, s, fmt.Sprintf("waits-%d", i))
	}
	frozen := s.Services["gateway-0"]
	frozen.Pause()
	// Copies of old acknowledgements end the fetches that the gateway has left at the broker: nothing later reaches it.
	for p := range topics.Partitions(registry.WriteAcknowledged) {
		if err := topics.Produce(registry.WriteAcknowledged, p, topics.Read(registry.WriteAcknowledged, p)...); err != nil {
			t.Fatal(err)
		}
	}
	s.Services["store-0"].Resume()
	l := load.Start(t, other, load.Options{Seed: harness.Seed(t), MostOps: 500})
	harness.Eventually(t, 20*time.Second, "what the clients wait for is acknowledged", func() error {
		have := map[string]bool{}
		for _, r := range harness.ReadAs[*eventsv1.WriteAcknowledged](topics, registry.WriteAcknowledged) {
			have[r.Value.GetStreamId()] = true
		}
		for i := range clients {
			if !have[fmt.Sprintf("waits-%d", i)] {
				return fmt.Errorf("waits-%d is not", i)
			}
		}
		return nil
	})
	l.AwaitMore(50, 20*time.Second)
	topics.Delete(registry.WriteAcknowledged)
	frozen.Resume()

	for range clients {
		if err := <-answers; harness.Status(err) != http.StatusGatewayTimeout {
			t.Errorf("the answer to a client whose acknowledgement is gone: %v, want 504", err)
		}
	}
	s.StillUp()
	for i := range clients {
		if t.Failed() {
			t.FailNow()
		}
		oneEffect(t, s, fmt.Sprintf("waits-%d", i), "k")
	}
	// It goes on, and so did the other one.
	after := load.Start(t, s, load.Options{Seed: harness.Seed(t), MostOps: 300, Prefix: "after"})
	after.AwaitFull(30 * time.Second)
	opsAfter, _ := after.Check()
	ops, _ := l.Check()
	load.CheckFeed(t, s, concat(opsBefore, ops, opsAfter))
	s.StillUp()
}

func concat(all ...[]history.Op) (ops []history.Op) {
	for _, some := range all {
		ops = append(ops, some...)
	}
	return ops
}

// TestOutcomesGoneForTheStore: the owners of the shards are frozen or killed, retention takes the outcomes that
// persistence publishes meanwhile, and another owner takes over, or the same starts again. Persistence says them
// again, from the last acknowledged place: everything is answered, without a retry by the clients.
func TestOutcomesGoneForTheStore(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"taken-over", "killed"} {
		t.Run(how, func(t *testing.T) {
			o := harness.Options{Shards: 2, Args: quick}
			s := harness.PrepareApart(t, o)
			stores := []*harness.Process{s.Services["store-0"]}
			if how == "taken-over" {
				stores = append(stores, s.Prepare(registry.Store, 1, o))
			}
			for _, p := range s.Services {
				p.Start()
			}
			s.AwaitReady(30 * time.Second)
			for i := range stores {
				s.AwaitNodeReady(fmt.Sprintf("store-%d", i), 30*time.Second)
			}
			topics := s.Topics()
			l := load.Start(t, s, load.Options{Seed: harness.Seed(t)})
			for range 2 {
				l.AwaitMore(100, 30*time.Second)
				// With persistence asleep the owners put into the log what nobody has decided yet.
				persistence := s.Services["persistence-0"]
				persistence.Pause()
				undecided(t, topics)
				for _, p := range stores {
					if how == "killed" {
						p.Kill9()
					} else {
						p.Pause()
					}
				}
				persistence.Resume()
				decided(t, topics)
				topics.Delete(registry.EventsPersisted)
				topics.Delete(registry.EventsReplicated)
				for _, p := range stores {
					if how == "killed" {
						p.Start()
					} else {
						p.Resume()
					}
				}
				stores = append(stores[1:], stores[0]) // the other one wakes first
				l.AwaitMore(100, 30*time.Second)
			}
			ops, _ := l.Check()
			load.CheckFeed(t, s, ops)
			// A write that was taken was answered; while the system is degraded some are not taken.
			metrics, err := s.Admin("gateway-0", "/metrics")
			if err != nil || !strings.Contains(metrics, `exesdb_gateway_writes_total{result="acknowledged"}`) {
				t.Errorf("metrics of the gateway: %v", err)
			}
			if strings.Contains(metrics, `exesdb_gateway_writes_total{result="unanswered"}`) {
				t.Error("a client got no answer in time, want an answer to every write")
			}
			s.StillUp()
		})
	}
}

// newestOutcome is the highest log offset of a shard whose outcome was published.
func newestOutcome(topics *harness.Topics, shard int32) int64 {
	newest := int64(-1)
	for _, r := range harness.ReadAs[*eventsv1.EventsPersisted](topics, registry.EventsPersisted) {
		if r.Partition == shard {
			newest = max(newest, r.Value.GetOutcome().GetLogOffset())
		}
	}
	for _, r := range harness.ReadAs[*eventsv1.EventsReplicated](topics, registry.EventsReplicated) {
		if r.Partition == shard {
			newest = max(newest, r.Value.GetOutcome().GetLogOffset())
		}
	}
	return newest
}

var errNotYet = errors.New("not yet")

// undecided waits until some shard has commands in the log whose outcome is not published.
func undecided(t *testing.T, topics *harness.Topics) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, "the log is ahead of the outcomes", func() error {
		for p := range topics.Partitions(registry.WriteCommandValidated) {
			if _, next := topics.Ends(registry.WriteCommandValidated, p); next-1 > newestOutcome(topics, p) {
				return nil
			}
		}
		return errNotYet
	})
}

// decided waits until the outcome of everything in the log is published.
func decided(t *testing.T, topics *harness.Topics) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, "the outcomes have come to the end of the log", func() error {
		for p := range topics.Partitions(registry.WriteCommandValidated) {
			if _, next := topics.Ends(registry.WriteCommandValidated, p); next-1 > newestOutcome(topics, p) {
				return errNotYet
			}
		}
		return nil
	})
}

// TestAcknowledgementsGoneForTheFeed: notification is down, or frozen, while retention takes the acknowledgements that
// it has not read, and the bodies too. The feed carries every acknowledged write all the same.
func TestAcknowledgementsGoneForTheFeed(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string][]string{
		"acknowledgements": {registry.WriteAcknowledged},
		"bodies":           {registry.WriteCommandValidated},
		"both":             {registry.WriteAcknowledged, registry.WriteCommandValidated},
	} {
		for _, killed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s-killed-%v", name, killed), func(t *testing.T) {
				s := harness.Apart(t, harness.Options{Shards: 2, Args: quick})
				topics := s.Topics()
				var all []history.Op
				write := func(prefix string) {
					l := load.Start(t, s, load.Options{Seed: harness.Seed(t), MostOps: 200, Prefix: prefix})
					l.AwaitFull(30 * time.Second)
					ops, _ := l.Check()
					all = append(all, ops...)
				}
				write("before")
				load.CheckFeed(t, s, all)
				notification := s.Services["notification-0"]
				if killed {
					notification.Kill9()
				} else {
					notification.Pause()
				}
				write("meanwhile")
				applied(t, s, topics)
				for _, event := range gone {
					topics.Delete(event)
				}
				if killed {
					notification.Start()
				} else {
					notification.Resume()
				}
				// Nothing says that some are missing but the next one.
				write("after")
				load.CheckFeed(t, s, all)
				s.AwaitNodeReady("notification-0", 10*time.Second)
				s.StillUp()
			})
		}
	}
}

// applied waits until persistence has no more need of the log's records: retention is longer than that.
func applied(t *testing.T, s *harness.Running, topics *harness.Topics) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, "the store's places are at the end of the log", func() error {
		places := map[int32]int64{}
		for _, r := range harness.ReadAs[*eventsv1.ShardAcknowledged](topics, registry.ShardAcknowledged) {
			places[r.Value.GetShard()] = max(places[r.Value.GetShard()], r.Value.GetLogOffset())
		}
		for p := range s.Shards {
			if _, next := topics.Ends(registry.WriteCommandValidated, p); places[p] < next-1 {
				return fmt.Errorf("shard %d: at %d of %d", p, places[p], next-1)
			}
		}
		return nil
	})
}

// TestOutcomesAndAcknowledgementsTwice: what persistence and the store say is said again in the middle of a load, late
// and out of place; nothing has a second effect.
func TestOutcomesAndAcknowledgementsTwice(t *testing.T) {
	t.Parallel()
	s := harness.Apart(t, harness.Options{Shards: 2, Args: quick})
	topics := s.Topics()
	l := load.Start(t, s, load.Options{Seed: harness.Seed(t)})
	for range 3 {
		l.AwaitMore(100, 30*time.Second)
		for _, event := range []string{registry.EventsPersisted, registry.EventsReplicated, registry.WriteAcknowledged, registry.WriteRejected} {
			for p := range topics.Partitions(event) {
				records := topics.Read(event, p)
				if err := topics.Produce(event, p, records[len(records)/2:]...); err != nil {
					t.Fatal(err)
				}
			}
		}
		// An owner and a leader of the feed that read them from their places.
		for _, node := range []string{"store-0", "notification-0"} {
			s.Services[node].Kill9()
			s.Services[node].Start()
			s.AwaitNodeReady(node, 30*time.Second)
		}
	}
	l.AwaitMore(100, 30*time.Second)
	ops, _ := l.Check()
	load.CheckFeed(t, s, ops)
	feedIsWhole(t, topics)
	s.StillUp()
}

// feedIsWhole checks that the feed itself has no second copies: its leaders came one after the other.
func feedIsWhole(t *testing.T, topics *harness.Topics) {
	t.Helper()
	last := map[int32]int64{}
	for _, r := range harness.ReadAs[*eventsv1.NotificationTriggered](topics, registry.NotificationTriggered) {
		if old, known := last[r.Partition]; known && r.Value.GetLogOffset() <= old {
			t.Errorf("shard %d: the notification of log offset %d comes after %d", r.Partition, r.Value.GetLogOffset(), old)
		}
		last[r.Partition] = r.Value.GetLogOffset()
	}
}
