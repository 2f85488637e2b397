package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/acceptance/load"
	"github.com/exesdb/exesdb/contracts/registry"
)

// TestKill9OfTheWholeProcess: the process is killed in the middle of a load, many
// times, and started again on the same files.
func TestKill9OfTheWholeProcess(t *testing.T) {
	for _, shards := range []int32{1, 4} {
		t.Run(fmt.Sprintf("%d-shards", shards), func(t *testing.T) {
			s := harness.Up(t, harness.Options{Shards: shards})
			l := load.Start(t, s, load.Options{Seed: harness.Seed(t)})
			var slowest time.Duration
			for range kills(t) {
				l.AwaitMore(200, 30*time.Second)
				s.All.Kill9()
				began := time.Now()
				s.All.Start()
				s.AwaitReady(30 * time.Second)
				slowest = max(slowest, time.Since(began))
			}
			l.AwaitMore(200, 30*time.Second)
			l.Check()
			t.Logf("ready at most %v after the start that followed a kill", slowest.Round(time.Millisecond))
			if slowest > 3*time.Second {
				t.Errorf("ready %v after the start: want less than 3s", slowest)
			}
			s.StillUp()
		})
	}
}

func kills(t *testing.T) int {
	t.Helper()
	return max(3, int(harness.Seconds(t, 4)/time.Second))
}

// TestKill9OfEachService: every service alone is a process; each is killed in the
// middle of a load and started again.
func TestKill9OfEachService(t *testing.T) {
	s := harness.Apart(t, harness.Options{Shards: 4})
	l := load.Start(t, s, load.Options{Seed: harness.Seed(t)})
	for _, system := range registry.All() {
		node := string(system) + "-0"
		l.AwaitMore(100, 30*time.Second)
		s.Services[node].Kill9()
		s.Services[node].Start()
		s.AwaitNodeReady(node, 30*time.Second)
	}
	l.AwaitMore(100, 30*time.Second)
	l.Check()
	s.StillUp()
}
