package registry

import (
	"strconv"
	"time"
)

// MaxMessageBytes is the largest record that a topic takes. The clients' and gRPC's limits are raised to match.
const MaxMessageBytes = 8 << 20

// TopicConfigs are the Kafka settings with which the topic of an event is
// created: what follows from its retention, and what holds for every topic.
// Replication factor, min.insync.replicas and byte limits depend on the
// deployment and are not here. All values are as Kafka spells them (times in
// milliseconds, sizes in bytes, -1 for no limit).
func TopicConfigs(e Event) map[string]string {
	configs := map[string]string{
		// The broker's clock, not the producers': one that is an hour ahead must not stop writes.
		"message.timestamp.type": "LogAppendTime",
		"max.message.bytes":      strconv.Itoa(MaxMessageBytes),
		// A replica that lags must not become the log.
		"unclean.leader.election.enable": "false",
		"compression.type":               "producer",
	}
	if e.Retention.Compacted() {
		// Kafka never compacts the open segment, so a state topic would grow by up to a
		// week of superseded records with the defaults. Small segments and an eager
		// cleaner keep it close to one record per key: whoever builds state reads all of it.
		configs["cleanup.policy"] = "compact"
		configs["segment.ms"] = millis(10 * time.Minute)
		configs["segment.bytes"] = strconv.Itoa(16 << 20)
		configs["min.cleanable.dirty.ratio"] = "0.1"
		// How long a deletion stays visible to a reader that started before it.
		configs["delete.retention.ms"] = millis(24 * time.Hour)
		return configs
	}
	configs["cleanup.policy"] = "delete"
	kept := e.Retention.Duration()
	if kept == 0 {
		configs["retention.ms"] = "-1"
		configs["retention.bytes"] = "-1"
		return configs
	}
	configs["retention.ms"] = millis(kept)
	// Only whole segments are dropped: with six to a period at most a sixth more is kept.
	configs["segment.ms"] = millis(kept / 6)
	return configs
}

// millis spells a duration as Kafka's settings do.
func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
