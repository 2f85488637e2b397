package registry_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/exesdb/exesdb/contracts/registry"
)

// row is what the event storming and the event catalogue say of an event, copied
// by hand: the registry must agree with them, not they with the registry.
type row struct {
	name     string
	scenario int
	by       []registry.System
	key      registry.Key
	kept     registry.Retention
	// fields of the storming by its own names, as name:type. A moment's field in
	// the message has the suffix _ms; a map() of a list of maps is its identity.
	fields string
	// more are the fields that the event catalogue adds.
	more string
}

// The systems of the catalogue, by its words.
var (
	everyService = []registry.System{"gateway", "store", "persistence", "notification", "cluster", "controlplane"}
	theFive      = []registry.System{"gateway", "store", "persistence", "notification", "cluster"}
	leaders      = []registry.System{"store", "persistence", "notification", "cluster", "controlplane"}
	gateway      = []registry.System{"gateway"}
	store        = []registry.System{"store"}
	persistence  = []registry.System{"persistence"}
	notification = []registry.System{"notification"}
	cluster      = []registry.System{"cluster"}
	controlplane = []registry.System{"controlplane"}
)

const outcomeFields = "outcome"

// storming is the event storming's field table with the catalogue's columns.
var storming = []row{
	{"system_startup_initiated", 1, everyService, "node", "signal", "node:string timestamp:moment store_id:string", ""},
	{"control_system_ready", 1, controlplane, "node", "signal", "pubsub_pid:string control_plane_pid:string", ""},
	{"initialization_started", 1, controlplane, "node", "signal", "expected_systems:[]string node:string", ""},
	{"subsystem_starting", 1, theFive, "node", "signal", "system:string node:string pid:string", ""},
	{"subsystem_ready", 1, theFive, "node", "signal", "system:string node:string services:[]string", ""},
	{"system_ready", 1, controlplane, "store", "state", "ready_systems:[]string node:string ready_at:moment", ""},

	{"node_discovered", 2, cluster, "node", "signal", "discovered_node:string cluster_nodes:[]string topology:string", ""},
	{"node_joining_cluster", 2, cluster, "node", "signal", "joining_node:string existing_nodes:[]string", ""},
	{"store_coordinator_node_added", 2, cluster, "node", "signal", "new_node:string khepri_cluster:[]string coordinator_state:map", ""},
	{"khepri_leader_changed", 2, leaders, "role/shard", "state", "old_leader:string new_leader:string term:int cluster_members:[]string", "role shard"},
	{"leader_responsibilities_assumed", 2, leaders, "role/shard", "signal", "leader_node:string subscriptions_to_load:[]string", ""},
	{"emitter_pools_starting", 2, notification, "shard", "signal", "subscription_count:int pools_to_start:[]string", ""},

	{"stream_write_requested", 3, gateway, "stream", "signal", "stream_id:string events:[]NewEvent expected_version:int", "write_id reply_to"},
	{"write_command_validated", 3, store, "stream", "log", "stream_id:string events:[]NewEvent write_id:string", "expected_version term seq request_offset"},
	{"persistence_write_started", 3, persistence, "stream", "signal", "stream_id:string events:[]EventHeader write_id:string", ""},
	{"events_persisted", 3, persistence, "stream", "fact", "stream_id:string new_version:int event_ids:[]string", "write_id " + outcomeFields},
	{"replication_required", 3, store, "stream", "signal", "stream_id:string events:[]EventHeader target_nodes:[]string", "write_id"},
	{"events_replicated", 3, persistence, "stream", "signal", "stream_id:string replicated_to:[]string write_id:string", outcomeFields},
	{"write_acknowledged", 3, store, "stream", "fact", "stream_id:string new_version:int write_id:string", "first_version log_offset previous_acknowledged_offset event_ids"},
	{"notification_triggered", 3, notification, "stream", "fact", "stream_id:string events:[]RecordedEvent subscribers:[]string", ""},

	{"node_failure_detected", 4, cluster, "node", "fact", "failed_node:string detection_time:moment remaining_nodes:[]string", ""},
	{"cluster_membership_changed", 4, cluster, "store", "state", "action:enum node:string new_membership:[]string", "epoch"},
	{"leadership_election_started", 4, cluster, "role/shard", "signal", "reason:string candidates:[]string", ""},
	{"subscription_orphaned", 4, notification, "node", "fact", "orphaned_subscriptions:[]string failed_node:string", ""},
	{"failover_initiated", 4, store, "role/shard", "fact", "failed_node:string affected_streams:[]string", "shard"},
	{"node_recovered", 4, cluster, "node", "fact", "recovered_node:string recovery_time:moment", ""},
	{"synchronization_required", 4, persistence, "node", "fact", "recovering_node:string sync_from_version:int", "shard"},

	{"subscription_requested", 5, gateway, "subscription", "signal", "stream_pattern:string subscriber_pid:string from_version:int", "selector name kind"},
	{"subscription_validated", 5, store, "subscription", "signal", "subscription_id:string stream_pattern:string valid:bool", "reason"},
	{"subscription_registered", 5, notification, "subscription", "state", "subscription_id:string subscriber_pid:string stream_pattern:string", ""},
	{"historical_events_requested", 5, []registry.System{"notification", "gateway"}, "stream or request", "hour", "subscription_id:string from_version:int stream_pattern:string", "request_id reply_to"},
	{"historical_events_loaded", 5, persistence, "reply address", "hour", "subscription_id:string events:[]RecordedEvent has_more:bool", "next_version next_offset"},
	{"subscription_active", 5, notification, "subscription", "signal", "subscription_id:string subscriber_pid:string", "position"},
}

// lacking are the events that the storming lacks; "" where the catalogue leaves it to the registry.
var lacking = []row{
	{name: "write_rejected", key: "stream"},
	{name: "node_heartbeat", by: everyService, key: "node", kept: "hour", more: "shards"},
	{name: "shard_acknowledged", key: "shard", kept: "state"},
	{name: "replica_diverged", key: "shard"},
	{name: "subscription_rejected", key: "subscription"},
	{name: "subscription_cancelled", key: "subscription"},
	{name: "subscription_checkpointed", key: "subscription", kept: "state"},
	{name: "subscription_acked", key: "subscription"},
	{name: "subscription_nacked", key: "subscription"},
	{name: "event_parked", key: "subscription"},
	{name: "stream_deleted", key: "stream"},
	{name: "snapshot_recorded", key: "stream"},
	{name: "system_degraded", by: controlplane},
	{name: "poison_record", by: everyService},
}

func TestRegistryIsTheStorming(t *testing.T) {
	if len(storming) != 33 {
		t.Fatalf("the storming has 33 events, the table %d", len(storming))
	}
	rows := append(slices.Clone(storming), lacking...)
	events := registry.Events()
	if len(events) != len(rows) {
		t.Errorf("the registry has %d events, the storming and what it lacks %d", len(events), len(rows))
	}
	for i, want := range rows {
		if i < len(events) && events[i].Name != want.name {
			t.Errorf("event %d of the registry is %s, want %s", i, events[i].Name, want.name)
		}
		t.Run(want.name, func(t *testing.T) {
			e, ok := registry.ByName(want.name)
			if !ok {
				t.Fatal("not in the registry")
			}
			if e.Scenario != want.scenario {
				t.Errorf("scenario is %d, want %d", e.Scenario, want.scenario)
			}
			if want.by != nil && !sameSystems(e.Producers, want.by) {
				t.Errorf("published by %v, want %v", e.Producers, want.by)
			}
			if want.key != "" && e.Key != want.key {
				t.Errorf("key is %q, want %q", e.Key, want.key)
			}
			if want.kept != "" && e.Retention != want.kept {
				t.Errorf("kept as %q, want %q", e.Retention, want.kept)
			}
			if len(e.Producers) == 0 || len(e.Consumers) == 0 || e.Doc == "" {
				t.Errorf("producers %v, consumers %v, doc %q: none may be empty", e.Producers, e.Consumers, e.Doc)
			}
			message := e.Message().ProtoReflect().Descriptor()
			for _, field := range strings.Fields(want.fields) {
				name, kind, _ := strings.Cut(field, ":")
				checkField(t, message, name, kind)
			}
			for _, name := range strings.Fields(want.more) {
				if message.Fields().ByName(protoreflect.Name(name)) == nil {
					t.Errorf("%s has no field %s, which the catalogue adds", message.Name(), name)
				}
			}
		})
	}
}

// checkField checks that a message has a field of the storming, of its type.
func checkField(t *testing.T, message protoreflect.MessageDescriptor, name, kind string) {
	t.Helper()
	if kind == "moment" {
		name += "_ms"
	}
	field := message.Fields().ByName(protoreflect.Name(name))
	if field == nil {
		t.Errorf("%s has no field %s, which the storming names", message.Name(), name)
		return
	}
	if got := stormingKind(field); got != strings.Replace(kind, "moment", "int", 1) {
		t.Errorf("%s.%s is %s, want %s", message.Name(), name, got, kind)
	}
}

// stormingKind is a field's type in the words of the table above.
func stormingKind(f protoreflect.FieldDescriptor) string {
	if f.IsMap() {
		return "map"
	}
	kind := f.Kind().String()
	switch {
	case f.Kind() == protoreflect.Int32Kind || f.Kind() == protoreflect.Int64Kind:
		kind = "int"
	case f.Message() != nil:
		kind = string(f.Message().Name())
	}
	if f.IsList() {
		return "[]" + kind
	}
	return kind
}

func sameSystems(a, b []registry.System) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// vocabulary are the messages that are parts of events.
var vocabulary = []protoreflect.Name{
	"NewEvent", "RecordedEvent", "EventHeader", "ShardProgress", // common
	"ApplyRules", "Outcome", // write
	"Selector", "StreamInfo", // subscription
}

func TestEveryMessageIsAnEventOrAPartOfOne(t *testing.T) {
	known := make(map[protoreflect.Name]bool)
	for _, name := range vocabulary {
		known[name] = true
	}
	for _, e := range registry.Events() {
		name := e.Message().ProtoReflect().Descriptor().Name()
		if name != camel(e.Name) {
			t.Errorf("event %s has the message %s, want %s", e.Name, name, camel(e.Name))
		}
		if known[name] {
			t.Errorf("message %s belongs to two events, or to an event and the vocabulary", name)
		}
		known[name] = true
	}
	for _, file := range eventFiles() {
		for i := range file.Messages().Len() {
			if name := file.Messages().Get(i).Name(); !known[name] {
				t.Errorf("message %s of %s is not in the registry, nor in this test's vocabulary", name, file.Path())
			}
			delete(known, file.Messages().Get(i).Name())
		}
	}
	for name := range known {
		t.Errorf("message %s is in no .proto file of the events", name)
	}
}

func TestMessagesAreNewEachTime(t *testing.T) {
	for _, e := range registry.Events() {
		first, second := e.Message(), e.Message()
		if first == second {
			t.Errorf("%s: Message gives the same message twice", e.Name)
		}
		if size := proto.Size(first); size != 0 {
			t.Errorf("%s: Message gives %d bytes, want an empty message", e.Name, size)
		}
	}
}

// camel is the camel-case form of an event's name.
func camel(event string) protoreflect.Name {
	words := strings.Split(event, "_")
	for i, word := range words {
		words[i] = strings.ToUpper(word[:1]) + word[1:]
	}
	return protoreflect.Name(strings.Join(words, ""))
}
