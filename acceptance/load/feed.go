package load

import (
	"fmt"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/acceptance/history"
	"github.com/exesdb/exesdb/contracts/registry"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// CheckFeed waits until the feed has every acknowledged append exactly once and in order, counted by log offset.
func CheckFeed(t testing.TB, s *harness.Running, ops []history.Op) {
	t.Helper()
	topics := s.Topics()
	want := map[string]bool{}
	for _, op := range ops {
		if op.Kind == history.Append && op.Result == history.OK {
			want[op.Events[0].ID] = true
		}
	}
	harness.Eventually(t, 15*time.Second, "the feed has every acknowledged write", func() error {
		have := map[string]bool{}
		for _, r := range harness.ReadAs[*eventsv1.NotificationTriggered](topics, registry.NotificationTriggered) {
			if len(r.Value.GetEvents()) > 0 {
				have[r.Value.GetEvents()[0].GetEventId()] = true
			}
		}
		missing, example := 0, ""
		for id := range want {
			if !have[id] {
				missing++
				example = id
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d are missing, such as that of event %s", missing, len(want), example)
		}
		return nil
	})
	last := map[int32]int64{}
	seen := map[string]int64{}
	versions := map[string]int64{}
	for _, r := range harness.ReadAs[*eventsv1.NotificationTriggered](topics, registry.NotificationTriggered) {
		at := r.Value.GetLogOffset()
		old, known := last[r.Partition]
		if known && at <= old || len(r.Value.GetEvents()) == 0 {
			continue // a second copy: readers drop it by log offset; or no notification at all
		}
		if known && r.Value.GetPreviousOffset() != old {
			t.Errorf("shard %d: the notification of log offset %d follows %d, it says %d", r.Partition, at, old, r.Value.GetPreviousOffset())
		}
		last[r.Partition] = at
		for _, e := range r.Value.GetEvents() {
			if first, twice := seen[e.GetEventId()]; twice {
				t.Errorf("event %s is notified at log offsets %d and %d", e.GetEventId(), first, at)
			}
			seen[e.GetEventId()] = at
			next, known := versions[e.GetStreamId()]
			if known && e.GetVersion() != next {
				t.Errorf("stream %s: version %d is notified after %d", e.GetStreamId(), e.GetVersion(), next-1)
			}
			versions[e.GetStreamId()] = e.GetVersion() + 1
		}
	}
}
