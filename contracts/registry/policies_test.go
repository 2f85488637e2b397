package registry_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/exesdb/exesdb/contracts/registry"
)

// catalogued are the policies of the event catalogue, copied by hand: when, then, where.
var catalogued = [][3]string{
	{"subsystem_starting", "update system status, go on starting in parallel", "controlplane"},
	{"subsystem_ready", "check whether all are ready, publish system_ready", "controlplane"},
	{"system_ready", "open the external API", "gateway"},
	{"node_discovered", "connect, exchange metadata (versions, roles, shards)", "cluster"},
	{"cluster_membership_changed, join", "elect if a role has no leader; rebalance", "cluster"},
	{"khepri_leader_changed", "follower: follow; leader: begin duties", "store, persistence, notification"},
	{"events_persisted, in a cluster", "publish replication_required", "store"},
	{"replication policy reached", "publish write_acknowledged", "store"},
	{"write_acknowledged", "publish notification_triggered", "notification"},
	{"node_failure_detected", "update membership, check for election", "cluster"},
	{"failure of a leader", "leadership_election_started among the rest", "cluster"},
	{"node_recovered", "synchronize what it missed, restore its subscriptions", "persistence, notification"},
}

func TestPoliciesAreTheCatalogue(t *testing.T) {
	policies := registry.Policies()
	if len(policies) != len(catalogued) {
		t.Fatalf("%d policies, the catalogue has %d", len(policies), len(catalogued))
	}
	names := make(map[string]bool)
	for i, p := range policies {
		want := catalogued[i]
		var where []string
		for _, s := range p.Systems {
			where = append(where, string(s))
		}
		if p.When != want[0] || p.Then != want[1] || strings.Join(where, ", ") != want[2] {
			t.Errorf("policy %d is %q → %q in %v, want %q → %q in %s", i, p.When, p.Then, p.Systems, want[0], want[1], want[2])
		}
		if names[p.Name] {
			t.Errorf("two policies are named %s", p.Name)
		}
		names[p.Name] = true
	}
}

var handlerName = regexp.MustCompile(`^[A-Z][A-Za-z]+On[A-Z][A-Za-z]+$`)

func TestPoliciesHearAndPublishWhatTheRegistrySays(t *testing.T) {
	for _, p := range registry.Policies() {
		t.Run(p.Name, func(t *testing.T) {
			if !handlerName.MatchString(p.Name) {
				t.Errorf("the name is not of the form DoOnEvent")
			}
			if len(p.On) == 0 || !strings.HasSuffix(p.Name, "On"+string(camel(p.On[len(p.On)-1]))) {
				t.Errorf("hears %v; the name must end with the last of them", p.On)
			}
			for _, system := range p.Systems {
				for _, on := range p.On {
					if !slices.Contains(registry.Must(on).Consumers, system) {
						t.Errorf("%s does not listen to %s", system, on)
					}
				}
			}
			for _, name := range p.Publishes {
				producers := registry.Must(name).Producers
				if !slices.ContainsFunc(p.Systems, func(s registry.System) bool { return slices.Contains(producers, s) }) {
					t.Errorf("none of %v publishes %s", p.Systems, name)
				}
			}
		})
	}
}

func TestEventsNameTheirPolicies(t *testing.T) {
	triggered := make(map[string]bool)
	for _, e := range registry.Events() {
		policies := e.Policies()
		for _, p := range policies {
			triggered[p.Name] = true
		}
		var when, then string
		if len(policies) > 0 {
			when, then = policies[0].When, policies[0].Then
		}
		if e.When != when || e.Then != then {
			t.Errorf("%s: when %q then %q, want %q and %q", e.Name, e.When, e.Then, when, then)
		}
	}
	if got := len(slices.Collect(maps.Keys(triggered))); got != len(catalogued) {
		t.Errorf("events trigger %d policies, want %d", got, len(catalogued))
	}
	if got := len(registry.Must(registry.NodeFailureDetected).Policies()); got != 2 {
		t.Errorf("node_failure_detected triggers %d policies, want 2", got)
	}
}

func TestScenarios(t *testing.T) {
	seen := 0
	for _, s := range registry.Scenarios() {
		if s.Title == "" {
			t.Errorf("scenario %d has no title", s.Number)
		}
		seen += len(s.Events())
	}
	if seen != len(registry.Events()) {
		t.Errorf("the scenarios have %d events, the registry %d", seen, len(registry.Events()))
	}
}
