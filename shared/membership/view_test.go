package membership

import (
	"testing"
	"time"

	"github.com/exesdb/exesdb/contracts/registry"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Of each shard one fresh replica that has caught up is enough, ready or not.
func TestServing(t *testing.T) {
	at, window := time.Unix(1000, 0), time.Second
	beat := func(node string, system registry.System, caughtUp ...bool) *eventsv1.NodeHeartbeat {
		b := &eventsv1.NodeHeartbeat{Node: node, System: string(system), WaitingFor: "disk full"}
		for i, c := range caughtUp {
			b.Shards = append(b.Shards, &eventsv1.ShardProgress{Shard: int32(i), CaughtUp: c}) //nolint:gosec // few
		}
		return b
	}
	var v View
	v.Observe(beat("p-0", registry.Persistence, true, false), 1, 1, at)
	v.Observe(beat("s-0", registry.Store, true, true), 1, 1, at)
	if n := v.Serving(registry.Persistence, at, window); n != 1 {
		t.Errorf("%d shards are served by one replica, want 1", n)
	}
	v.Observe(beat("p-1", registry.Persistence, true, true), 1, 1, at.Add(window))
	if n := v.Serving(registry.Persistence, at.Add(window), window); n != 2 {
		t.Errorf("%d shards are served by both, want 2", n)
	}
	if n := v.Serving(registry.Persistence, at.Add(3*window), window); n != 0 {
		t.Errorf("%d shards are served by the silent, want 0", n)
	}
}
