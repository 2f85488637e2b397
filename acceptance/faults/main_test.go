// Package faults kills, freezes and cuts off parts of the system in the middle of a
// load, and checks what clients saw and what the store holds.
package faults

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// one is a small append to a stream.
func one(stream, key string) harness.Append {
	return harness.Append{Stream: stream, Key: key, Events: []harness.Event{{EventType: "Happened", Data: json.RawMessage(`{"ok":true}`)}}}
}

// during waits while a load goes on: where a fault lasts for a time, and not until an event.
func during(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}
