// Package writes shows scenario 3: event stream write and replication.
package writes

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/exesdb/exesdb/acceptance/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// events makes n events without ids.
func events(n int) []harness.Event {
	out := make([]harness.Event, n)
	for i := range out {
		out[i] = harness.Event{EventType: "Counted", Data: json.RawMessage(fmt.Sprintf(`{"i":%d}`, i))}
	}
	return out
}

// mustAppend appends with an expected version and fails the test unless it is taken.
func mustAppend(t *testing.T, s harness.Store, stream string, expected int64, key string, events ...harness.Event) harness.Appended {
	t.Helper()
	a, err := s.Append(t.Context(), harness.Append{Stream: stream, Expected: &expected, Key: key, Events: events})
	if err != nil {
		t.Fatalf("append to %s expecting %d: %v", stream, expected, err)
	}
	return a
}
