package runtime

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/control"
	"github.com/exesdb/exesdb/shared/membership"
	"github.com/exesdb/exesdb/shared/version"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// View is what this instance knows of the whole system: who is there, who
// leads, and whether the system is ready.
type View struct {
	instance *Instance

	mu        sync.Mutex
	members   membership.View
	announced bool // the newest word of the control plane was system_ready
	judged    time.Time
	missing   []string // as of judged
	readable  bool     // as of judged
	leaders   map[string]*eventsv1.KhepriLeaderChanged
}

// NewView makes a view and adds the policies that fill it to the router.
func (i *Instance) NewView(router *control.Router) (*View, error) {
	v := &View{instance: i, leaders: map[string]*eventsv1.KhepriLeaderChanged{}}
	err := control.On(router, "TrackMembersOnNodeHeartbeat", control.Newest, func(_ context.Context, meta control.Meta, e *eventsv1.NodeHeartbeat) error {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.members.Observe(e, meta.Incarnation, meta.Sequence, time.Now())
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = control.On(router, "OpenExternalAPIOnSystemReady", control.Oldest, func(context.Context, control.Meta, *eventsv1.SystemReady) error {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.announced = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	return v, control.On(router, "FollowLeaderOnKhepriLeaderChanged", control.Oldest, func(_ context.Context, _ control.Meta, e *eventsv1.KhepriLeaderChanged) error {
		v.mu.Lock()
		defer v.mu.Unlock()
		key := leaderKey(e.GetRole(), e.GetShard())
		if old := v.leaders[key]; old == nil || e.GetTerm() >= old.GetTerm() {
			v.leaders[key] = e
		}
		return nil
	})
}

func leaderKey(role string, shard int32) string {
	return fmt.Sprintf("%s/%d", role, shard)
}

// judgeEvery is how long a verdict on readiness holds: every request asks for it.
const judgeEvery = 10 * time.Millisecond

// Ready tells whether the system is ready: it was announced, and what is heard
// now still confirms it. Otherwise it lists what is missing.
func (v *View) Ready() (bool, []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.judge()
	return len(v.missing) == 0, v.missing
}

// Readable tells whether history is served: the system was announced, and of each
// shard a replica is heard that has caught up. That may go on when the system is
// not ready: a store that is gone, or a full disk, is no reason to hide what is there.
func (v *View) Readable() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.judge()
	return v.readable
}

func (v *View) judge() {
	now, window := time.Now(), Window(v.instance.Config)
	if now.Sub(v.judged) <= judgeEvery {
		return
	}
	v.members.Forget(now, 10*window)
	v.judged, v.missing = now, v.members.Missing(registry.Expected(), now, window)
	if len(v.missing) == 0 && !v.announced {
		v.missing = []string{string(registry.ControlPlane) + ": waiting for system_ready"}
	}
	v.readable = v.announced && v.members.Serving(registry.Persistence, now, window) >= int(v.instance.Config.Shards)
}

// System describes the running system.
func (v *View) System() *apiv1.GetSystemResponse {
	ready, missing := v.Ready()
	v.mu.Lock()
	defer v.mu.Unlock()
	cfg := v.instance.Config
	out := &apiv1.GetSystemResponse{
		StoreId: cfg.StoreID, Shards: cfg.Shards, Ready: ready, Missing: missing, Version: version.String(),
	}
	for _, n := range v.members.Fresh(time.Now(), 10*Window(cfg)) {
		node := &apiv1.Node{
			Node: n.Beat.GetNode(), System: n.Beat.GetSystem(), Version: n.Beat.GetVersion(), Address: n.Beat.GetAddress(),
			Ready: n.Beat.GetReady(), LastHeardMs: n.Heard.UnixMilli(),
		}
		for _, s := range n.Beat.GetShards() {
			node.Shards = append(node.Shards, &apiv1.NodeShard{
				Shard: s.GetShard(), LogOffset: s.GetLogOffset(), CaughtUp: s.GetCaughtUp(), Leads: s.GetLeads(),
			})
		}
		out.Nodes = append(out.Nodes, node)
	}
	for _, l := range v.leaders {
		out.Leaders = append(out.Leaders, &apiv1.Leader{Role: l.GetRole(), Shard: l.GetShard(), Node: l.GetNewLeader(), Term: l.GetTerm()})
	}
	sort.Slice(out.Leaders, func(a, b int) bool {
		if out.Leaders[a].GetRole() != out.Leaders[b].GetRole() {
			return out.Leaders[a].GetRole() < out.Leaders[b].GetRole()
		}
		return out.Leaders[a].GetShard() < out.Leaders[b].GetShard()
	})
	return out
}
