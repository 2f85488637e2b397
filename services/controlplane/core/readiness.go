// Package core decides when the system is ready. It is pure: what was heard and
// the time come in, announcements go out.
package core

import (
	"time"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/membership"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Readiness aggregates the systems' heartbeats.
//
//	unknown --all ready--> ready --something missing--> degraded --all ready--> ready
//	unknown --grace over, something missing--> degraded
type Readiness struct {
	node     string
	expected []registry.System
	window   time.Duration
	view     membership.View
	state    state
	since    time.Time // first Tick
}

type state int

const (
	unknown state = iota
	ready
	degraded
)

// NewReadiness expects every system of expected to be heard, ready, within window.
func NewReadiness(node string, expected []registry.System, window time.Duration) *Readiness {
	return &Readiness{node: node, expected: expected, window: window}
}

// Heartbeat takes a heartbeat into account.
func (r *Readiness) Heartbeat(beat *eventsv1.NodeHeartbeat, incarnation, sequence uint64, heard time.Time) {
	r.view.Observe(beat, incarnation, sequence, heard)
}

// Starting takes into account that an instance began a life. It is the first word of that life whenever
// it was said, so that one published late does not undo a heartbeat that says ready.
func (r *Readiness) Starting(e *eventsv1.SubsystemStarting, incarnation uint64, heard time.Time) {
	r.view.Observe(&eventsv1.NodeHeartbeat{
		Node: e.GetNode(), System: e.GetSystem(), Address: e.GetPid(), WaitingFor: "start",
	}, incarnation, 0, heard)
}

// Tick returns what to announce now: a change of state, or nothing. Whatever
// the order in which heartbeats came and however often, the state is the same.
func (r *Readiness) Tick(now time.Time) (*eventsv1.SystemReady, *eventsv1.SystemDegraded) {
	if r.since.IsZero() {
		r.since = now
	}
	r.view.Forget(now, 10*r.window)
	missing := r.view.Missing(r.expected, now, r.window)
	switch {
	case len(missing) == 0 && r.state != ready:
		r.state = ready
		names := make([]string, len(r.expected))
		for i, s := range r.expected {
			names[i] = string(s)
		}
		return &eventsv1.SystemReady{ReadySystems: names, Node: r.node, ReadyAtMs: now.UnixMilli()}, nil
	case len(missing) > 0 && (r.state == ready || r.state == unknown && now.Sub(r.since) > r.window):
		r.state = degraded
		return nil, &eventsv1.SystemDegraded{
			MissingSystems: missing, Node: r.node, DegradedAtMs: now.UnixMilli(),
			Reason: "expected systems are not heard or not ready",
		}
	}
	return nil, nil
}

// Missing lists what is not ready now.
func (r *Readiness) Missing(now time.Time) []string {
	return r.view.Missing(r.expected, now, r.window)
}
