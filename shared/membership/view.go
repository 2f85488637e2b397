// Package membership is what an instance knows of the others from their
// heartbeats. It is pure: time comes in with every call.
package membership

import (
	"slices"
	"sort"
	"time"

	"github.com/exesdb/exesdb/contracts/registry"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Node is one instance as last heard.
type Node struct {
	Beat        *eventsv1.NodeHeartbeat
	Incarnation uint64
	Sequence    uint64
	Heard       time.Time
}

// View is the set of instances heard. The zero value is empty; it is not safe for concurrent use.
type View struct {
	nodes map[string]Node
}

// Observe takes a heartbeat into account. Heartbeats of an earlier incarnation,
// or of an earlier place in the same one, change nothing, so that order and
// repetition do not matter. It tells whether the node is new or has restarted.
func (v *View) Observe(beat *eventsv1.NodeHeartbeat, incarnation, sequence uint64, heard time.Time) bool {
	if v.nodes == nil {
		v.nodes = map[string]Node{}
	}
	old, known := v.nodes[beat.GetNode()]
	if known && (incarnation < old.Incarnation || incarnation == old.Incarnation && sequence <= old.Sequence) {
		return false
	}
	v.nodes[beat.GetNode()] = Node{Beat: beat, Incarnation: incarnation, Sequence: sequence, Heard: heard}
	return !known || incarnation != old.Incarnation
}

// Fresh lists the nodes heard within the window before now, by name.
func (v *View) Fresh(now time.Time, window time.Duration) []Node {
	var fresh []Node
	for _, n := range v.nodes {
		if now.Sub(n.Heard) <= window {
			fresh = append(fresh, n)
		}
	}
	sort.Slice(fresh, func(i, j int) bool { return fresh[i].Beat.GetNode() < fresh[j].Beat.GetNode() })
	return fresh
}

// Missing lists the expected systems of which no fresh instance is ready, each
// with the reason that its instances give.
func (v *View) Missing(expected []registry.System, now time.Time, window time.Duration) []string {
	reasons := map[string]string{}
	ready := map[string]bool{}
	for _, n := range v.Fresh(now, window) {
		system := n.Beat.GetSystem()
		if n.Beat.GetReady() {
			ready[system] = true
		} else if reasons[system] == "" {
			reasons[system] = n.Beat.GetWaitingFor()
		}
	}
	var missing []string
	for _, s := range expected {
		if ready[string(s)] {
			continue
		}
		line := string(s) + ": not heard"
		if reason, heard := reasons[string(s)]; heard {
			line = string(s) + ": waiting for " + reason
		}
		missing = append(missing, line)
	}
	slices.Sort(missing)
	return missing
}

// Serving counts the shards of which a fresh instance of the system has caught up, ready or not.
func (v *View) Serving(system registry.System, now time.Time, window time.Duration) int {
	shards := map[int32]struct{}{}
	for _, n := range v.Fresh(now, window) {
		if n.Beat.GetSystem() != string(system) {
			continue
		}
		for _, s := range n.Beat.GetShards() {
			if s.GetCaughtUp() {
				shards[s.GetShard()] = struct{}{}
			}
		}
	}
	return len(shards)
}

// Forget drops nodes not heard for longer than the window.
func (v *View) Forget(now time.Time, window time.Duration) {
	for name, n := range v.nodes {
		if now.Sub(n.Heard) > window {
			delete(v.nodes, name)
		}
	}
}
