package faults

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/acceptance/load"
	"github.com/exesdb/exesdb/tools/embedded"
)

// TestBrokerFaults: the broker refuses, loses its answers, drops connections and moves leaders in the middle of a load.
// Afterwards the load goes on, nothing was restarted, and every write had one effect.
func TestBrokerFaults(t *testing.T) {
	t.Parallel()
	harness.EmbeddedOnly(t)
	faults := []struct {
		name string
		embedded.Fault
	}{
		{"too-few-replicas", embedded.Fault{API: "produce", Error: "NOT_ENOUGH_REPLICAS", Every: 3, Count: 40}},
		// The duplicate-makers: the records are in the log, and whoever sent them does not know.
		{"appended-but-timed-out", embedded.Fault{API: "produce", Error: "REQUEST_TIMED_OUT", Every: 3, Count: 40}},
		{"answer-to-produce-lost", embedded.Fault{API: "produce", Drop: "answer", Every: 5, Count: 40}},
		{"request-to-produce-lost", embedded.Fault{API: "produce", Drop: "request", Every: 5, Count: 40}},
		{"no-leader-for-produce", embedded.Fault{API: "produce", Error: "NOT_LEADER_FOR_PARTITION", Every: 3, Count: 40}},
		{"no-leader-for-fetch", embedded.Fault{API: "fetch", Error: "NOT_LEADER_FOR_PARTITION", Every: 5, Count: 40}},
		{"answer-to-fetch-lost", embedded.Fault{API: "fetch", Drop: "answer", Every: 5, Count: 40}},
	}
	for _, shards := range []int32{1, 4} {
		t.Run(fmt.Sprintf("%d-shards", shards), func(t *testing.T) {
			s := harness.Apart(t, harness.Options{Shards: shards})
			for _, f := range faults {
				t.Run(f.name, func(t *testing.T) {
					under(t, s, f.name, func() {
						injected := s.Inject(f.Fault)
						harness.Eventually(t, 15*time.Second, "the requests went wrong", func() error {
							if hits, err := injected.Hits(); err != nil || hits < f.Count {
								return fmt.Errorf("%d of %d did: %w", hits, f.Count, err)
							}
							return nil
						})
					})
				})
			}
			t.Run("leaders-move", func(t *testing.T) {
				under(t, s, "leaders-move", func() {
					for range 5 {
						s.MoveLeaders()
						await(t, s)
					}
				})
			})
		})
	}
}

// under does something bad in the middle of a load, and checks everything after it.
func under(t *testing.T, s *harness.Running, name string, bad func()) {
	t.Helper()
	l := load.Start(t, s, load.Options{Seed: harness.Seed(t), Prefix: name + "-"})
	l.AwaitMore(50, 30*time.Second)
	stop := answersAreClear(t, s, name)
	bad()
	stop()
	l.AwaitMore(100, 30*time.Second)
	ops, _ := l.Check()
	load.CheckFeed(t, s, ops)
	s.StillUp()
}

// await appends to some streams, of several shards, until every one is taken.
func await(t *testing.T, s *harness.Running) {
	t.Helper()
	for i := range 2 * s.Shards {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, _, err := harness.AppendUntilKnown(ctx, s.REST, one(fmt.Sprintf("await-%d", i), fmt.Sprint(time.Now().UnixNano())))
		cancel()
		if err != nil {
			t.Fatalf("append: %v", err)
		}
	}
}

// answersAreClear appends until it is stopped: what fails is unavailable or of unknown outcome, and says so.
func answersAreClear(t *testing.T, s *harness.Running, name string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				var problem error
				if client%2 == 0 {
					_, problem = s.REST.Append(t.Context(), one(fmt.Sprintf("clear-%s-%d", name, client), fmt.Sprint(n)))
				} else {
					_, problem = s.GRPC.Append(t.Context(), one(fmt.Sprintf("clear-%s-%d", name, client), fmt.Sprint(n)))
				}
				switch harness.Status(problem) {
				case http.StatusOK, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
				default:
					t.Errorf("append: %v, want an acknowledgement, 503 or 504", problem)
					return
				}
			}
		})
	}
	return func() { cancel(); clients.Wait() }
}
