package registry_test

import (
	"strconv"
	"testing"

	"github.com/exesdb/exesdb/contracts/registry"
)

func TestTopicConfigs(t *testing.T) {
	// What each retention must come to; "" is a setting that must be absent.
	want := map[registry.Retention]map[string]string{
		registry.RetainLog:    {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "segment.ms": ""},
		registry.RetainFact:   {"cleanup.policy": "delete", "retention.ms": "604800000", "segment.ms": "100800000"},
		registry.RetainSignal: {"cleanup.policy": "delete", "retention.ms": "86400000", "segment.ms": "14400000"},
		registry.RetainHour:   {"cleanup.policy": "delete", "retention.ms": "3600000", "segment.ms": "600000"},
		registry.RetainState:  {"cleanup.policy": "compact", "retention.ms": "", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "600000", "segment.bytes": "16777216"},
	}
	seen := make(map[registry.Retention]bool)
	for _, e := range registry.Events() {
		seen[e.Retention] = true
		configs := registry.TopicConfigs(e)
		for name, value := range want[e.Retention] {
			if configs[name] != value {
				t.Errorf("%s (%s): %s is %q, want %q", e.Name, e.Retention, name, configs[name], value)
			}
		}
		if configs["message.timestamp.type"] != "LogAppendTime" || configs["max.message.bytes"] != strconv.Itoa(8<<20) {
			t.Errorf("%s: timestamps %q, max.message.bytes %q", e.Name, configs["message.timestamp.type"], configs["max.message.bytes"])
		}
		configs["cleanup.policy"] = "changed by the caller"
		if again := registry.TopicConfigs(e)["cleanup.policy"]; again == "changed by the caller" {
			t.Errorf("%s: the callers share one map", e.Name)
		}
	}
	if len(seen) != len(want) {
		t.Errorf("the events have %d retentions, the test %d", len(seen), len(want))
	}
}

func TestPartitions(t *testing.T) {
	for name, want := range map[string]int32{
		registry.StreamWriteRequested:      8,
		registry.WriteCommandValidated:     8,
		registry.HistoricalEventsRequested: 8,
		registry.HistoricalEventsLoaded:    8,
		registry.ShardAcknowledged:         1,
		registry.NodeHeartbeat:             1,
		registry.SubscriptionRegistered:    1,
	} {
		if got := registry.Must(name).Partitions(8); got != want {
			t.Errorf("%s has %d partitions with 8 shards, want %d", name, got, want)
		}
	}
	if got := registry.Must(registry.SystemReady).Topic("s1"); got != "s1.system_ready" {
		t.Errorf("topic is %s", got)
	}
}
