package writes

import (
	"fmt"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/acceptance/load"
)

// TestConcurrentAppendsAreLinearizable: 32 writers, few streams, every expected
// version, retries with the same key.
func TestConcurrentAppendsAreLinearizable(t *testing.T) {
	for _, shards := range []int32{1, 4} {
		t.Run(fmt.Sprintf("%d-shards", shards), func(t *testing.T) {
			s := harness.Up(t, harness.Options{Shards: shards})
			l := load.Start(t, s, load.Options{Seed: harness.Seed(t)})
			during(t, harness.Seconds(t, 4))
			l.Check()
			s.StillUp()
		})
	}
}

// during waits: the only place where a test waits for time and not for an event, because the load is measured in time.
func during(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}
