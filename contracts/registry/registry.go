// Package registry is the single source of the events of ExESDB: their names,
// topics, keys, partitions, retention, producers and consumers. Topics are
// created from it, the event catalogue and the AsyncAPI document are generated
// from it, and services subscribe through it.
package registry

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
)

// System is one of the services, or the command line.
type System string

// The systems. Expected lists those that must be ready.
const (
	Gateway      System = "gateway"
	Store        System = "store"
	Persistence  System = "persistence"
	Notification System = "notification"
	Cluster      System = "cluster"
	ControlPlane System = "controlplane"
)

// Expected are the systems that must be ready before the store is; the control
// plane itself announces them.
func Expected() []System {
	return []System{Persistence, Notification, Store, Cluster, Gateway}
}

// All are the six systems.
func All() []System { return append([]System{ControlPlane}, Expected()...) }

// Key says what the records of a topic are keyed by.
type Key string

// Keys. Those that follow a stream spread over the shards.
const (
	KeyStream Key = "stream"
	KeyReply  Key = "reply address"
	// A request that names no stream is keyed by its own id.
	KeyStreamOrRequest Key = "stream or request"
	KeyNode            Key = "node"
	KeyStore           Key = "store"
	KeyRoleShard       Key = "role/shard"
	KeyShard           Key = "shard"
	KeySubscription    Key = "subscription"
)

// Retention says how long the records of a topic are kept.
type Retention string

// Retentions.
const (
	RetainLog    Retention = "log"    // for ever
	RetainFact   Retention = "fact"   // 7 days
	RetainSignal Retention = "signal" // 1 day
	RetainHour   Retention = "hour"   // 1 hour
	RetainState  Retention = "state"  // compacted: the newest per key
)

// Duration of a retention; 0 is for ever.
func (r Retention) Duration() time.Duration {
	switch r {
	case RetainFact:
		return 7 * 24 * time.Hour
	case RetainSignal:
		return 24 * time.Hour
	case RetainHour:
		return time.Hour
	default:
		return 0
	}
}

// Compacted tells whether only the newest record per key is kept.
func (r Retention) Compacted() bool { return r == RetainState }

// Event is one row of the catalogue.
type Event struct {
	Name      string
	Scenario  int // 1 to 5; 0 is what the storming lacks
	Key       Key
	Retention Retention
	Producers []System
	Consumers []System
	// Doc is one sentence.
	Doc string
	// When and Then are the first reactive policy that the event triggers; empty for none. Policies has all of them.
	When, Then string
	// Message makes an empty message of the event's type.
	Message func() proto.Message
}

// Sharded tells whether the topic has one partition per shard.
func (e Event) Sharded() bool {
	return e.Key == KeyStream || e.Key == KeyStreamOrRequest || e.Key == KeyReply
}

// Partitions of the topic in a store with that many shards.
func (e Event) Partitions(shards int32) int32 {
	if e.Sharded() {
		return shards
	}
	return 1
}

// Topic of the event in a store.
func (e Event) Topic(storeID string) string { return Topic(storeID, e.Name) }

// Topic is the name of an event's topic: <store_id>.<event_name>.
func Topic(storeID, event string) string { return storeID + "." + event }

// ByName finds an event.
func ByName(name string) (Event, bool) {
	for _, e := range events {
		if e.Name == name {
			return e, true
		}
	}
	return Event{}, false
}

// Must finds an event that the program names itself; it panics for a name that is not in the catalogue.
func Must(name string) Event {
	e, ok := ByName(name)
	if !ok {
		panic(fmt.Sprintf("event %q is not in the registry", name))
	}
	return e
}

// Events lists the catalogue in its order.
func Events() []Event { return append([]Event(nil), events...) }
