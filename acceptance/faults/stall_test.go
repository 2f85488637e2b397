package faults

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/acceptance/load"
	"github.com/exesdb/exesdb/contracts/registry"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// TestTwoStoreOwnersAtOnce: a store process is frozen past its lease, a second one takes
// the shards over, and the first wakes with its buffers full and believes that it leads.
func TestTwoStoreOwnersAtOnce(t *testing.T) {
	o := harness.Options{Shards: 2, Args: []string{"--heartbeat", "100ms", "--lease-ttl", "500ms"}}
	s := harness.PrepareApart(t, o)
	s.Prepare(registry.Store, 1, o)
	for _, p := range s.Services {
		p.Start()
	}
	s.AwaitReady(30 * time.Second)
	s.AwaitNodeReady("store-1", 30*time.Second)
	l := load.Start(t, s, load.Options{Seed: harness.Seed(t)})
	for round := range 4 {
		l.AwaitMore(100, 30*time.Second)
		frozen := fmt.Sprintf("store-%d", round%2)
		s.Services[frozen].Pause()
		l.AwaitMore(100, 30*time.Second) // the other one has taken over, or led already
		during(t, time.Second)           // past the lease: both own what the first has led
		s.Services[frozen].Resume()
	}
	l.AwaitMore(200, 30*time.Second)
	l.Check()
	s.StillUp()
}

// TestEachServiceFrozen: a process that does not answer for some seconds, and wakes.
func TestEachServiceFrozen(t *testing.T) {
	s := harness.Apart(t, harness.Options{Args: []string{"--heartbeat", "100ms", "--lease-ttl", "500ms"}})
	l := load.Start(t, s, load.Options{Seed: harness.Seed(t)})
	for _, system := range registry.All() {
		l.AwaitMore(50, 30*time.Second)
		p := s.Services[string(system)+"-0"]
		p.Pause()
		during(t, 1200*time.Millisecond) // past leases and heartbeats
		p.Resume()
	}
	l.AwaitMore(50, 30*time.Second)
	l.Check()
	s.StillUp()
}

// TestWritesGoOnWithoutRedis: Redis is away for ten seconds and comes back empty. Who leads goes on leading.
func TestWritesGoOnWithoutRedis(t *testing.T) {
	t.Parallel()
	harness.EmbeddedOnly(t)
	s := harness.Apart(t, harness.Options{Args: []string{"--heartbeat", "100ms", "--lease-ttl", "500ms"}})
	l := load.Start(t, s, load.Options{Seed: harness.Seed(t), MostOps: 30_000})
	l.AwaitMore(100, 30*time.Second)
	s.Server.Kill9()
	began := time.Now()
	for time.Since(began) < 10*time.Second {
		l.AwaitMore(20, 2*time.Second)
		during(t, 250*time.Millisecond)
	}
	s.Server.Start() // empty
	l.AwaitMore(100, 10*time.Second)
	during(t, time.Second) // leases are given anew
	l.AwaitMore(100, 10*time.Second)
	l.Check()
	s.StillUp()
}

// TestNoAcknowledgementWithoutKafka: with the broker frozen nothing is acknowledged; afterwards all of it has one effect.
func TestNoAcknowledgementWithoutKafka(t *testing.T) {
	harness.EmbeddedOnly(t)
	s := harness.Apart(t, harness.Options{ServiceArgs: map[registry.System][]string{registry.Gateway: {"--write-timeout", "700ms"}}})
	s.Broker.Pause()
	_, err := s.REST.Append(t.Context(), one("cut-off", "k"))
	if status := harness.Status(err); status != http.StatusServiceUnavailable && status != http.StatusGatewayTimeout {
		t.Errorf("append without Kafka: %v, want 503 or 504", err)
	}
	s.Broker.Resume()
	oneEffect(t, s, "cut-off", "k")
	s.StillUp()
}

// TestKafkaRestarts: the broker is killed and started again on its files, in the middle of a load.
func TestKafkaRestarts(t *testing.T) {
	harness.EmbeddedOnly(t)
	s := harness.Apart(t, harness.Options{})
	l := load.Start(t, s, load.Options{Seed: harness.Seed(t)})
	for range 3 {
		l.AwaitMore(100, 30*time.Second)
		s.Broker.Kill9()
		s.Broker.Start()
	}
	l.AwaitMore(100, 30*time.Second)
	l.Check()
	s.StillUp()
}

// TestInFlightWritesSurviveARestart: a write whose store dies completes at the next one, without a retry by the client.
func TestInFlightWritesSurviveARestart(t *testing.T) {
	s := harness.Apart(t, harness.Options{Args: []string{"--heartbeat", "100ms", "--lease-ttl", "500ms"}})
	for _, system := range []registry.System{registry.Store, registry.Persistence} {
		p := s.Services[string(system)+"-0"]
		p.Kill9()
		stream := "in-flight-" + string(system)
		type result struct {
			harness.Appended
			err error
		}
		results := make(chan result, 1)
		go func() {
			a, err := s.REST.Append(t.Context(), one(stream, "k"))
			results <- result{a, err}
		}()
		requested(t, s, stream)
		p.Start()
		if r := <-results; r.err != nil || r.FirstVersion != 0 {
			t.Errorf("%s killed: %+v %v", system, r.Appended, r.err)
		}
		oneEffect(t, s, stream, "k")
	}
}

// requested waits until a request for the stream is in its topic.
func requested(t *testing.T, s *harness.Running, stream string) {
	t.Helper()
	topics := s.Topics()
	harness.Eventually(t, 10*time.Second, "the request is in the topic", func() error {
		for _, r := range harness.ReadAs[*eventsv1.StreamWriteRequested](topics, registry.StreamWriteRequested) {
			if r.Value.GetStreamId() == stream {
				return nil
			}
		}
		return fmt.Errorf("no request for %s", stream)
	})
}

// TestRetryAfterUnknownOutcomeHasOneEffect: 504, then the same key again.
func TestRetryAfterUnknownOutcomeHasOneEffect(t *testing.T) {
	s := harness.Apart(t, harness.Options{ServiceArgs: map[registry.System][]string{registry.Gateway: {"--write-timeout", "500ms"}}})
	s.Services["store-0"].Kill9()
	for range 3 {
		if _, err := s.REST.Append(t.Context(), one("unknown", "k")); harness.Status(err) != http.StatusGatewayTimeout {
			t.Errorf("append without a store: %v, want 504", err)
		}
	}
	s.Services["store-0"].Start()
	oneEffect(t, s, "unknown", "k")
}

// oneEffect tries again with the same key until the outcome is known: the stream then has the one event.
func oneEffect(t *testing.T, s *harness.Running, stream, key string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, tries, err := harness.AppendUntilKnown(ctx, s.REST, one(stream, key))
	if err != nil || a.FirstVersion != 0 {
		t.Errorf("after %d tries: %+v %v, want version 0", tries, a, err)
	}
	if read, err := s.REST.ReadStream(t.Context(), stream); err != nil || len(read) != 1 {
		t.Errorf("%d events, %v, want the one", len(read), err)
	}
}
