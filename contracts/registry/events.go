package registry

import (
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// The names of the events; the message of a name is its camel-case form.
const (
	SystemStartupInitiated        = "system_startup_initiated"
	ControlSystemReady            = "control_system_ready"
	InitializationStarted         = "initialization_started"
	SubsystemStarting             = "subsystem_starting"
	SubsystemReady                = "subsystem_ready"
	SystemReady                   = "system_ready"
	NodeDiscovered                = "node_discovered"
	NodeJoiningCluster            = "node_joining_cluster"
	StoreCoordinatorNodeAdded     = "store_coordinator_node_added"
	KhepriLeaderChanged           = "khepri_leader_changed"
	LeaderResponsibilitiesAssumed = "leader_responsibilities_assumed"
	EmitterPoolsStarting          = "emitter_pools_starting"
	StreamWriteRequested          = "stream_write_requested"
	WriteCommandValidated         = "write_command_validated"
	PersistenceWriteStarted       = "persistence_write_started"
	EventsPersisted               = "events_persisted"
	ReplicationRequired           = "replication_required"
	EventsReplicated              = "events_replicated"
	WriteAcknowledged             = "write_acknowledged"
	NotificationTriggered         = "notification_triggered"
	NodeFailureDetected           = "node_failure_detected"
	ClusterMembershipChanged      = "cluster_membership_changed"
	LeadershipElectionStarted     = "leadership_election_started"
	SubscriptionOrphaned          = "subscription_orphaned"
	FailoverInitiated             = "failover_initiated"
	NodeRecovered                 = "node_recovered"
	SynchronizationRequired       = "synchronization_required"
	SubscriptionRequested         = "subscription_requested"
	SubscriptionValidated         = "subscription_validated"
	SubscriptionRegistered        = "subscription_registered"
	HistoricalEventsRequested     = "historical_events_requested"
	HistoricalEventsLoaded        = "historical_events_loaded"
	SubscriptionActive            = "subscription_active"
	WriteRejected                 = "write_rejected"
	NodeHeartbeat                 = "node_heartbeat"
	ShardAcknowledged             = "shard_acknowledged"
	ReplicaDiverged               = "replica_diverged"
	SubscriptionRejected          = "subscription_rejected"
	SubscriptionCancelled         = "subscription_cancelled"
	SubscriptionCheckpointed      = "subscription_checkpointed"
	SubscriptionAcked             = "subscription_acked"
	SubscriptionNacked            = "subscription_nacked"
	EventParked                   = "event_parked"
	StreamDeleted                 = "stream_deleted"
	SnapshotRecorded              = "snapshot_recorded"
	SystemDegraded                = "system_degraded"
	PoisonRecord                  = "poison_record"
)

// events is the catalogue, in the order of the scenarios.
var events = withPolicies([]Event{
	{
		Name: SystemStartupInitiated, Scenario: 1, Key: KeyNode, Retention: RetainSignal,
		Producers: All(), Consumers: []System{ControlPlane},
		Doc:     "An instance starts.",
		Message: func() proto.Message { return new(eventsv1.SystemStartupInitiated) },
	},
	{
		Name: ControlSystemReady, Scenario: 1, Key: KeyNode, Retention: RetainSignal,
		Producers: []System{ControlPlane}, Consumers: []System{ControlPlane},
		Doc:     "The control plane reads and writes the bus.",
		Message: func() proto.Message { return new(eventsv1.ControlSystemReady) },
	},
	{
		Name: InitializationStarted, Scenario: 1, Key: KeyNode, Retention: RetainSignal,
		Producers: []System{ControlPlane}, Consumers: []System{Gateway, Store, Persistence, Notification, Cluster},
		Doc:     "The control plane names the systems it waits for.",
		Message: func() proto.Message { return new(eventsv1.InitializationStarted) },
	},
	{
		Name: SubsystemStarting, Scenario: 1, Key: KeyNode, Retention: RetainSignal,
		Producers: []System{Gateway, Store, Persistence, Notification, Cluster}, Consumers: []System{ControlPlane},
		Doc:     "A system starts.",
		Message: func() proto.Message { return new(eventsv1.SubsystemStarting) },
	},
	{
		Name: SubsystemReady, Scenario: 1, Key: KeyNode, Retention: RetainSignal,
		Producers: []System{Gateway, Store, Persistence, Notification, Cluster}, Consumers: []System{ControlPlane},
		Doc:     "A system can do its work.",
		Message: func() proto.Message { return new(eventsv1.SubsystemReady) },
	},
	{
		Name: SystemReady, Scenario: 1, Key: KeyStore, Retention: RetainState,
		Producers: []System{ControlPlane}, Consumers: []System{Gateway, Notification, ControlPlane},
		Doc:     "All expected systems are ready.",
		Message: func() proto.Message { return new(eventsv1.SystemReady) },
	},
	{
		Name: NodeDiscovered, Scenario: 2, Key: KeyNode, Retention: RetainSignal,
		Producers: []System{Cluster}, Consumers: []System{Cluster},
		Doc:     "An instance is heard for the first time.",
		Message: func() proto.Message { return new(eventsv1.NodeDiscovered) },
	},
	{
		Name: NodeJoiningCluster, Scenario: 2, Key: KeyNode, Retention: RetainSignal,
		Producers: []System{Cluster}, Consumers: []System{Cluster},
		Doc:     "A node joins.",
		Message: func() proto.Message { return new(eventsv1.NodeJoiningCluster) },
	},
	{
		Name: StoreCoordinatorNodeAdded, Scenario: 2, Key: KeyNode, Retention: RetainSignal,
		Producers: []System{Cluster}, Consumers: []System{Cluster},
		Doc:     "The store coordinator counts the node.",
		Message: func() proto.Message { return new(eventsv1.StoreCoordinatorNodeAdded) },
	},
	{
		Name: KhepriLeaderChanged, Scenario: 2, Key: KeyRoleShard, Retention: RetainState,
		Producers: []System{Store, Persistence, Notification, Cluster, ControlPlane}, Consumers: []System{Store, Persistence, Notification, Cluster, Gateway, ControlPlane},
		Doc:     "The lease on (role, shard) has a new holder.",
		Message: func() proto.Message { return new(eventsv1.KhepriLeaderChanged) },
	},
	{
		Name: LeaderResponsibilitiesAssumed, Scenario: 2, Key: KeyRoleShard, Retention: RetainSignal,
		Producers: []System{Store, Persistence, Notification, Cluster, ControlPlane}, Consumers: []System{Notification, Cluster},
		Doc:     "A leader does its work.",
		Message: func() proto.Message { return new(eventsv1.LeaderResponsibilitiesAssumed) },
	},
	{
		Name: EmitterPoolsStarting, Scenario: 2, Key: KeyShard, Retention: RetainSignal,
		Producers: []System{Notification}, Consumers: []System{ControlPlane},
		Doc:     "Delivery to subscriptions starts.",
		Message: func() proto.Message { return new(eventsv1.EmitterPoolsStarting) },
	},
	{
		Name: StreamWriteRequested, Scenario: 3, Key: KeyStream, Retention: RetainSignal,
		Producers: []System{Gateway}, Consumers: []System{Store},
		Doc:     "A client asks for a write.",
		Message: func() proto.Message { return new(eventsv1.StreamWriteRequested) },
	},
	{
		Name: WriteCommandValidated, Scenario: 3, Key: KeyStream, Retention: RetainLog,
		Producers: []System{Store}, Consumers: []System{Persistence, Notification, Store},
		Doc:     "A record of the log: a write in its order.",
		Message: func() proto.Message { return new(eventsv1.WriteCommandValidated) },
	},
	{
		Name: PersistenceWriteStarted, Scenario: 3, Key: KeyStream, Retention: RetainSignal,
		Producers: []System{Persistence}, Consumers: []System{ControlPlane},
		Doc:     "The leader applies a write.",
		Message: func() proto.Message { return new(eventsv1.PersistenceWriteStarted) },
	},
	{
		Name: EventsPersisted, Scenario: 3, Key: KeyStream, Retention: RetainFact,
		Producers: []System{Persistence}, Consumers: []System{Store, Notification},
		Doc:     "The leader's outcome of one log offset.",
		Message: func() proto.Message { return new(eventsv1.EventsPersisted) },
	},
	{
		Name: ReplicationRequired, Scenario: 3, Key: KeyStream, Retention: RetainSignal,
		Producers: []System{Store}, Consumers: []System{Persistence},
		Doc:     "Replicas that must still report a write.",
		Message: func() proto.Message { return new(eventsv1.ReplicationRequired) },
	},
	{
		Name: EventsReplicated, Scenario: 3, Key: KeyStream, Retention: RetainSignal,
		Producers: []System{Persistence}, Consumers: []System{Store},
		Doc:     "A follower's outcome of one log offset.",
		Message: func() proto.Message { return new(eventsv1.EventsReplicated) },
	},
	{
		Name: WriteAcknowledged, Scenario: 3, Key: KeyStream, Retention: RetainFact,
		Producers: []System{Store}, Consumers: []System{Gateway, Notification},
		Doc:     "Enough replicas hold the write.",
		Message: func() proto.Message { return new(eventsv1.WriteAcknowledged) },
	},
	{
		Name: NotificationTriggered, Scenario: 3, Key: KeyStream, Retention: RetainFact,
		Producers: []System{Notification}, Consumers: []System{Gateway},
		Doc:     "The public feed: one per acknowledged write.",
		Message: func() proto.Message { return new(eventsv1.NotificationTriggered) },
	},
	{
		Name: NodeFailureDetected, Scenario: 4, Key: KeyNode, Retention: RetainFact,
		Producers: []System{Cluster}, Consumers: []System{Cluster, Store, Persistence, Notification, ControlPlane},
		Doc:     "An instance was not heard for too long.",
		Message: func() proto.Message { return new(eventsv1.NodeFailureDetected) },
	},
	{
		Name: ClusterMembershipChanged, Scenario: 4, Key: KeyStore, Retention: RetainState,
		Producers: []System{Cluster}, Consumers: []System{Cluster, Store, Persistence, Notification, ControlPlane},
		Doc:     "The current membership.",
		Message: func() proto.Message { return new(eventsv1.ClusterMembershipChanged) },
	},
	{
		Name: LeadershipElectionStarted, Scenario: 4, Key: KeyRoleShard, Retention: RetainSignal,
		Producers: []System{Cluster}, Consumers: []System{Store, Persistence, Notification},
		Doc:     "A lease is open.",
		Message: func() proto.Message { return new(eventsv1.LeadershipElectionStarted) },
	},
	{
		Name: SubscriptionOrphaned, Scenario: 4, Key: KeyNode, Retention: RetainFact,
		Producers: []System{Notification}, Consumers: []System{Notification},
		Doc:     "Subscriptions lost their node.",
		Message: func() proto.Message { return new(eventsv1.SubscriptionOrphaned) },
	},
	{
		Name: FailoverInitiated, Scenario: 4, Key: KeyRoleShard, Retention: RetainFact,
		Producers: []System{Store}, Consumers: []System{Cluster},
		Doc:     "A new owner takes a shard over.",
		Message: func() proto.Message { return new(eventsv1.FailoverInitiated) },
	},
	{
		Name: NodeRecovered, Scenario: 4, Key: KeyNode, Retention: RetainFact,
		Producers: []System{Cluster}, Consumers: []System{Persistence, Notification},
		Doc:     "A failed instance is heard again.",
		Message: func() proto.Message { return new(eventsv1.NodeRecovered) },
	},
	{
		Name: SynchronizationRequired, Scenario: 4, Key: KeyNode, Retention: RetainFact,
		Producers: []System{Persistence}, Consumers: []System{Persistence},
		Doc:     "A replica catches up from a log offset.",
		Message: func() proto.Message { return new(eventsv1.SynchronizationRequired) },
	},
	{
		Name: SubscriptionRequested, Scenario: 5, Key: KeySubscription, Retention: RetainSignal,
		Producers: []System{Gateway}, Consumers: []System{Store},
		Doc:     "A client asks for a subscription.",
		Message: func() proto.Message { return new(eventsv1.SubscriptionRequested) },
	},
	{
		Name: SubscriptionValidated, Scenario: 5, Key: KeySubscription, Retention: RetainSignal,
		Producers: []System{Store}, Consumers: []System{Notification},
		Doc:     "The store's verdict on a subscription.",
		Message: func() proto.Message { return new(eventsv1.SubscriptionValidated) },
	},
	{
		Name: SubscriptionRegistered, Scenario: 5, Key: KeySubscription, Retention: RetainState,
		Producers: []System{Notification}, Consumers: []System{Notification},
		Doc:     "An entry of the subscription registry.",
		Message: func() proto.Message { return new(eventsv1.SubscriptionRegistered) },
	},
	{
		Name: HistoricalEventsRequested, Scenario: 5, Key: KeyStreamOrRequest, Retention: RetainHour,
		Producers: []System{Notification, Gateway}, Consumers: []System{Persistence},
		Doc:     "A page of history is asked for.",
		Message: func() proto.Message { return new(eventsv1.HistoricalEventsRequested) },
	},
	{
		Name: HistoricalEventsLoaded, Scenario: 5, Key: KeyReply, Retention: RetainHour,
		Producers: []System{Persistence}, Consumers: []System{Gateway, Notification},
		Doc:     "A page of history.",
		Message: func() proto.Message { return new(eventsv1.HistoricalEventsLoaded) },
	},
	{
		Name: SubscriptionActive, Scenario: 5, Key: KeySubscription, Retention: RetainSignal,
		Producers: []System{Notification}, Consumers: []System{Gateway},
		Doc:     "A subscription delivers live.",
		Message: func() proto.Message { return new(eventsv1.SubscriptionActive) },
	},
	{
		Name: WriteRejected, Scenario: 0, Key: KeyStream, Retention: RetainFact,
		Producers: []System{Store}, Consumers: []System{Gateway},
		Doc:     "A write has no effect, and why.",
		Message: func() proto.Message { return new(eventsv1.WriteRejected) },
	},
	{
		Name: NodeHeartbeat, Scenario: 0, Key: KeyNode, Retention: RetainHour,
		Producers: All(), Consumers: []System{ControlPlane, Cluster, Gateway, Store, Persistence},
		Doc:     "An instance lives; carries its progress per shard.",
		Message: func() proto.Message { return new(eventsv1.NodeHeartbeat) },
	},
	{
		Name: ShardAcknowledged, Scenario: 0, Key: KeyShard, Retention: RetainState,
		Producers: []System{Store}, Consumers: []System{Store, Persistence, Notification},
		Doc:     "How far the store has acknowledged a shard.",
		Message: func() proto.Message { return new(eventsv1.ShardAcknowledged) },
	},
	{
		Name: ReplicaDiverged, Scenario: 0, Key: KeyShard, Retention: RetainFact,
		Producers: []System{Persistence, Store}, Consumers: []System{ControlPlane, Store},
		Doc:     "A replica refuses a shard.",
		Message: func() proto.Message { return new(eventsv1.ReplicaDiverged) },
	},
	{
		Name: SubscriptionRejected, Scenario: 0, Key: KeySubscription, Retention: RetainSignal,
		Producers: []System{Store, Notification}, Consumers: []System{Gateway},
		Doc:     "There is no such subscription, and why.",
		Message: func() proto.Message { return new(eventsv1.SubscriptionRejected) },
	},
	{
		Name: SubscriptionCancelled, Scenario: 0, Key: KeySubscription, Retention: RetainSignal,
		Producers: []System{Gateway, Notification}, Consumers: []System{Notification},
		Doc:     "A subscription ends.",
		Message: func() proto.Message { return new(eventsv1.SubscriptionCancelled) },
	},
	{
		Name: SubscriptionCheckpointed, Scenario: 0, Key: KeySubscription, Retention: RetainState,
		Producers: []System{Notification}, Consumers: []System{Notification},
		Doc:     "How far a persistent subscription has come.",
		Message: func() proto.Message { return new(eventsv1.SubscriptionCheckpointed) },
	},
	{
		Name: SubscriptionAcked, Scenario: 0, Key: KeySubscription, Retention: RetainSignal,
		Producers: []System{Gateway}, Consumers: []System{Notification},
		Doc:     "A consumer has handled an event.",
		Message: func() proto.Message { return new(eventsv1.SubscriptionAcked) },
	},
	{
		Name: SubscriptionNacked, Scenario: 0, Key: KeySubscription, Retention: RetainSignal,
		Producers: []System{Gateway}, Consumers: []System{Notification},
		Doc:     "A consumer could not handle an event.",
		Message: func() proto.Message { return new(eventsv1.SubscriptionNacked) },
	},
	{
		Name: EventParked, Scenario: 0, Key: KeySubscription, Retention: RetainFact,
		Producers: []System{Notification}, Consumers: []System{Notification},
		Doc:     "An event was set aside for a subscription.",
		Message: func() proto.Message { return new(eventsv1.EventParked) },
	},
	{
		Name: StreamDeleted, Scenario: 0, Key: KeyStream, Retention: RetainFact,
		Producers: []System{Persistence}, Consumers: []System{Notification},
		Doc:     "A delete was applied.",
		Message: func() proto.Message { return new(eventsv1.StreamDeleted) },
	},
	{
		Name: SnapshotRecorded, Scenario: 0, Key: KeyStream, Retention: RetainState,
		Producers: []System{Persistence}, Consumers: []System{Gateway},
		Doc:     "A snapshot of a stream was stored.",
		Message: func() proto.Message { return new(eventsv1.SnapshotRecorded) },
	},
	{
		Name: SystemDegraded, Scenario: 0, Key: KeyStore, Retention: RetainSignal,
		Producers: []System{ControlPlane}, Consumers: []System{Gateway, Notification},
		Doc:     "Something expected is missing.",
		Message: func() proto.Message { return new(eventsv1.SystemDegraded) },
	},
	{
		Name: PoisonRecord, Scenario: 0, Key: KeyNode, Retention: RetainFact,
		Producers: All(), Consumers: []System{ControlPlane},
		Doc:     "A record that could not be read, with the reason.",
		Message: func() proto.Message { return new(eventsv1.PoisonRecord) },
	},
})

// withPolicies fills When and Then from the policies.
func withPolicies(rows []Event) []Event {
	for i := range rows {
		if triggered := rows[i].Policies(); len(triggered) > 0 {
			rows[i].When, rows[i].Then = triggered[0].When, triggered[0].Then
		}
	}
	return rows
}
