package embedded

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func faulty(t *testing.T) *Broker {
	t.Helper()
	b, err := StartBroker(BrokerOptions{Addr: "127.0.0.1:0", Dir: t.TempDir(), Faults: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// TestFaultsHaveTheirEffect: a client that does not retry sees each fault, and the log holds what it should.
func TestFaultsHaveTheirEffect(t *testing.T) {
	for name, want := range map[string]struct {
		Fault
		err      error // nil is any
		appended bool
	}{
		"refused":        {Fault{API: "produce", Topic: topic, Error: "NOT_ENOUGH_REPLICAS", Count: 1}, kerr.NotEnoughReplicas, false},
		"timed out":      {Fault{API: "produce", Error: "REQUEST_TIMED_OUT", Count: 1}, nil, true},
		"no leader":      {Fault{API: "produce", Error: "NOT_LEADER_FOR_PARTITION", Count: 1}, kerr.NotLeaderForPartition, false},
		"request lost":   {Fault{API: "produce", Drop: "request", Count: 1}, nil, false},
		"answer lost":    {Fault{API: "produce", Drop: "answer", Count: 1}, nil, true},
		"of other topic": {Fault{API: "produce", Topic: "other", Error: "NOT_ENOUGH_REPLICAS", Count: 1}, errNone, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := faulty(t)
			c := client(t, b, kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.RequestRetries(0), kgo.RequiredAcks(kgo.LeaderAck()))
			create(t, c, nil)
			injected, err := b.Inject(want.Fault)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err = c.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("1")}).FirstErr()
			hits := 1
			switch {
			case errors.Is(want.err, errNone):
				hits = 0
				if err != nil {
					t.Errorf("produce: %v, want no error", err)
				}
			case err == nil || want.err != nil && !errors.Is(err, want.err):
				t.Errorf("produce: %v, want %v", err, want.err)
			}
			if injected.Hits() != hits {
				t.Errorf("%d requests went wrong, want %d", injected.Hits(), hits)
			}
			injected.Remove()
			if _, end := offsets(t, c); (end == 1) != want.appended {
				t.Errorf("the log ends at %d, want the record appended: %v", end, want.appended)
			}
		})
	}
}

var errNone = errors.New("no error")

func TestLeadersMove(t *testing.T) {
	b := faulty(t)
	c := client(t, b)
	create(t, c, nil)
	for range 8 {
		if err := b.MoveLeaders(); err != nil {
			t.Fatal(err)
		}
		produce(t, c, "k", "v")
	}
	if values := consume(t, b); len(values) != 8 {
		t.Errorf("%d records, want 8", len(values))
	}
}

func TestFaultThatMakesNoSense(t *testing.T) {
	for _, f := range []Fault{
		{API: "metadata", Error: "REQUEST_TIMED_OUT"}, {API: "produce"}, {API: "produce", Error: "NO_SUCH_ERROR"},
		{API: "fetch", Drop: "sometimes"}, {API: "fetch", Drop: "answer", Topic: "t"},
	} {
		if _, err := faulty(t).Inject(f); err == nil {
			t.Errorf("%+v: no error", f)
		}
	}
	if _, err := start(t, t.TempDir()).Inject(Fault{API: "fetch", Drop: "answer"}); err == nil {
		t.Error("a broker without Faults: no error")
	}
}
