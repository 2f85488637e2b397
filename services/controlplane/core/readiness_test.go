package core

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/exesdb/exesdb/contracts/registry"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

type heard struct {
	beat                  *eventsv1.NodeHeartbeat
	incarnation, sequence uint64
}

// Heartbeats of restarting systems, shuffled and delivered again: the end is the
// same, because a later word of a node always counts more than an earlier one.
func TestReadinessDoesNotDependOnOrderOrRepetition(t *testing.T) {
	now := time.Unix(1000, 0)
	rapid.Check(t, func(t *rapid.T) {
		var all []heard
		ready := true
		for _, s := range registry.Expected() {
			last := false
			for inc := range uint64(rapid.IntRange(1, 3).Draw(t, "incarnations")) {
				for seq := range uint64(rapid.IntRange(1, 3).Draw(t, "beats")) {
					last = rapid.Bool().Draw(t, "ready")
					all = append(all, heard{&eventsv1.NodeHeartbeat{Node: string(s) + "-0", System: string(s), Ready: last}, inc + 1, seq + 1})
				}
			}
			ready = ready && last
		}
		again := rapid.SliceOfN(rapid.SampledFrom(all), 0, 10).Draw(t, "again")
		order := rapid.Permutation(append(all, again...)).Draw(t, "order")
		r := NewReadiness("controlplane-0", registry.Expected(), time.Second)
		for _, h := range order {
			r.Heartbeat(h.beat, h.incarnation, h.sequence, now)
		}
		announced, _ := r.Tick(now)
		if (announced != nil) != ready {
			t.Fatalf("system_ready announced: %v, want %v; missing %v", announced != nil, ready, r.Missing(now))
		}
	})
}

func TestReadinessIsLostAndFoundAgain(t *testing.T) {
	at := time.Unix(1000, 0)
	r := NewReadiness("controlplane-0", registry.Expected(), time.Second)
	all := func(seq uint64, now time.Time, leaveOut registry.System) {
		for _, s := range registry.Expected() {
			if s != leaveOut {
				r.Heartbeat(&eventsv1.NodeHeartbeat{Node: string(s), System: string(s), Ready: true}, 1, seq, now)
			}
		}
	}
	all(1, at, registry.Store)
	if ready, degraded := r.Tick(at); ready != nil || degraded != nil {
		t.Fatal("announced something before the store was heard")
	}
	all(2, at.Add(time.Second), "")
	if ready, _ := r.Tick(at.Add(time.Second)); ready == nil || len(ready.GetReadySystems()) != len(registry.Expected()) {
		t.Fatalf("got %v, want system_ready with all systems", ready)
	}
	if ready, degraded := r.Tick(at.Add(time.Second)); ready != nil || degraded != nil {
		t.Fatal("announced the same state twice")
	}
	all(3, at.Add(3*time.Second), registry.Store)
	_, degraded := r.Tick(at.Add(3 * time.Second))
	if degraded == nil || len(degraded.GetMissingSystems()) != 1 {
		t.Fatalf("got %v, want system_degraded naming the store", degraded)
	}
	all(4, at.Add(4*time.Second), "")
	if ready, _ := r.Tick(at.Add(4 * time.Second)); ready == nil {
		t.Fatal("the system is whole again and nobody says so")
	}
}

// subsystem_starting is published aside of the heartbeats and may come after one that says ready; that of a
// new life counts.
func TestALateWordOfStartingDoesNotUndoReadiness(t *testing.T) {
	at := time.Unix(1000, 0)
	r := NewReadiness("controlplane-0", registry.Expected(), time.Second)
	for _, s := range registry.Expected() {
		r.Heartbeat(&eventsv1.NodeHeartbeat{Node: string(s), System: string(s), Ready: true}, 7, 1, at)
	}
	starting := &eventsv1.SubsystemStarting{Node: string(registry.Store), System: string(registry.Store)}
	r.Starting(starting, 7, at)
	if ready, _ := r.Tick(at); ready == nil {
		t.Fatalf("not ready: %v", r.Missing(at))
	}
	r.Starting(starting, 8, at)
	if _, degraded := r.Tick(at); degraded == nil {
		t.Fatal("a restart of the store was not noticed")
	}
}
