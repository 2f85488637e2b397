// Package core is the membership of the cluster: heartbeats and time come in,
// the storming's events go out. It is pure.
package core

import (
	"slices"
	"sort"
	"time"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"google.golang.org/protobuf/proto"
)

// Output is an event to publish with its key.
type Output struct {
	Key   string
	Event proto.Message
}

// Members knows the nodes of the cluster.
//
//	unknown --heartbeat--> member --silent too long--> failed --heartbeat--> member
type Members struct {
	storeID string
	timeout time.Duration
	epoch   int64
	nodes   map[string]*node
}

type node struct {
	incarnation, sequence uint64
	heard                 time.Time
	failed                bool
}

// NewMembers declares a node failed after timeout without a heartbeat. epoch is
// the newest one announced before.
func NewMembers(storeID string, timeout time.Duration, epoch int64) *Members {
	return &Members{storeID: storeID, timeout: timeout, epoch: epoch, nodes: map[string]*node{}}
}

// SawEpoch keeps the epoch above one that another instance announced.
func (m *Members) SawEpoch(epoch int64) { m.epoch = max(m.epoch, epoch) }

// Heartbeat takes a heartbeat and returns what follows from it.
func (m *Members) Heartbeat(name string, incarnation, sequence uint64, now time.Time) []Output {
	n := m.nodes[name]
	if n != nil && (incarnation < n.incarnation || incarnation == n.incarnation && sequence <= n.sequence) {
		return nil // late, or delivered again
	}
	before := m.names()
	if n == nil {
		m.nodes[name] = &node{incarnation: incarnation, sequence: sequence, heard: now}
		return append([]Output{
			{name, &eventsv1.NodeDiscovered{DiscoveredNode: name, ClusterNodes: before, Topology: "kafka"}},
			{name, &eventsv1.NodeJoiningCluster{JoiningNode: name, ExistingNodes: before}},
			{name, &eventsv1.StoreCoordinatorNodeAdded{NewNode: name, KhepriCluster: m.names()}},
		}, m.changed(eventsv1.ClusterMembershipChanged_ACTION_JOIN, name))
	}
	recovered := n.failed
	n.incarnation, n.sequence, n.heard, n.failed = incarnation, sequence, now, false
	if !recovered {
		return nil
	}
	return []Output{
		{name, &eventsv1.NodeRecovered{RecoveredNode: name, RecoveryTimeMs: now.UnixMilli()}},
		m.changed(eventsv1.ClusterMembershipChanged_ACTION_JOIN, name),
	}
}

// Tick returns what follows from the silence of nodes.
func (m *Members) Tick(now time.Time) []Output {
	var silent []string
	for name, n := range m.nodes {
		if !n.failed && now.Sub(n.heard) > m.timeout {
			silent = append(silent, name)
		}
	}
	sort.Strings(silent)
	var out []Output
	for _, name := range silent {
		m.nodes[name].failed = true
		out = append(out,
			Output{name, &eventsv1.NodeFailureDetected{FailedNode: name, DetectionTimeMs: now.UnixMilli(), RemainingNodes: m.names()}},
			m.changed(eventsv1.ClusterMembershipChanged_ACTION_LEAVE, name))
	}
	return out
}

func (m *Members) changed(action eventsv1.ClusterMembershipChanged_Action, name string) Output {
	m.epoch++
	return Output{m.storeID, &eventsv1.ClusterMembershipChanged{Action: action, Node: name, NewMembership: m.names(), Epoch: m.epoch}}
}

// names lists the nodes that are not failed.
func (m *Members) names() []string {
	var names []string
	for name, n := range m.nodes {
		if !n.failed {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
