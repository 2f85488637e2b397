package registry

// Policy is one reactive rule of the event storming ("when this, then that").
// Exactly one handler carries it in each system where it lives, and the handler
// bears the policy's name.
type Policy struct {
	// Name of the handler: what it does, On, and the event that it hears.
	Name string
	// On are the events that trigger it; the name ends with the last of them.
	On []string
	// Publishes are the events that carry the result; empty when it only changes the system's own state.
	Publishes []string
	// When and Then are the words of the catalogue.
	When, Then string
	// Systems where the policy lives.
	Systems []System
}

// policies in the order of the event catalogue. The storming's leader_elected is
// khepri_leader_changed, its leader_failed is node_failure_detected of a leader, and its
// replication_completed is the outcome with which the replication policy is reached.
var policies = []Policy{
	{
		Name: "UpdateSystemStatusOnSubsystemStarting", On: []string{SubsystemStarting},
		When: "subsystem_starting", Then: "update system status, go on starting in parallel",
		Systems: []System{ControlPlane},
	},
	{
		Name: "PublishSystemReadyOnSubsystemReady", On: []string{SubsystemReady}, Publishes: []string{SystemReady},
		When: "subsystem_ready", Then: "check whether all are ready, publish system_ready",
		Systems: []System{ControlPlane},
	},
	{
		Name: "OpenExternalAPIOnSystemReady", On: []string{SystemReady},
		When: "system_ready", Then: "open the external API",
		Systems: []System{Gateway},
	},
	{
		Name: "ConnectNodeOnNodeDiscovered", On: []string{NodeDiscovered}, Publishes: []string{NodeJoiningCluster},
		When: "node_discovered", Then: "connect, exchange metadata (versions, roles, shards)",
		Systems: []System{Cluster},
	},
	{
		Name: "ElectMissingLeadersOnClusterMembershipChanged", On: []string{ClusterMembershipChanged}, Publishes: []string{LeadershipElectionStarted},
		When: "cluster_membership_changed, join", Then: "elect if a role has no leader; rebalance",
		Systems: []System{Cluster},
	},
	{
		Name: "FollowOrLeadOnKhepriLeaderChanged", On: []string{KhepriLeaderChanged}, Publishes: []string{LeaderResponsibilitiesAssumed},
		When: "khepri_leader_changed", Then: "follower: follow; leader: begin duties",
		Systems: []System{Store, Persistence, Notification},
	},
	{
		Name: "PublishReplicationRequiredOnEventsPersisted", On: []string{EventsPersisted}, Publishes: []string{ReplicationRequired},
		When: "events_persisted, in a cluster", Then: "publish replication_required",
		Systems: []System{Store},
	},
	{
		// Any replica's outcome counts, so the leader's may be the one with which the policy is reached.
		Name: "PublishWriteAcknowledgedOnEventsReplicated", On: []string{EventsPersisted, EventsReplicated}, Publishes: []string{WriteAcknowledged},
		When: "replication policy reached", Then: "publish write_acknowledged",
		Systems: []System{Store},
	},
	{
		Name: "PublishNotificationTriggeredOnWriteAcknowledged", On: []string{WriteAcknowledged}, Publishes: []string{NotificationTriggered},
		When: "write_acknowledged", Then: "publish notification_triggered",
		Systems: []System{Notification},
	},
	{
		Name: "UpdateMembershipOnNodeFailureDetected", On: []string{NodeFailureDetected}, Publishes: []string{ClusterMembershipChanged},
		When: "node_failure_detected", Then: "update membership, check for election",
		Systems: []System{Cluster},
	},
	{
		Name: "PublishLeadershipElectionStartedOnNodeFailureDetected", On: []string{NodeFailureDetected}, Publishes: []string{LeadershipElectionStarted},
		When: "failure of a leader", Then: "leadership_election_started among the rest",
		Systems: []System{Cluster},
	},
	{
		Name: "CatchUpOnNodeRecovered", On: []string{NodeRecovered}, Publishes: []string{SynchronizationRequired},
		When: "node_recovered", Then: "synchronize what it missed, restore its subscriptions",
		Systems: []System{Persistence, Notification},
	},
}

// Policies lists the twelve policies of the catalogue, in its order.
func Policies() []Policy { return append([]Policy(nil), policies...) }

// Policies that the event triggers, in the catalogue's order; most events have none or one.
func (e Event) Policies() []Policy {
	var triggered []Policy
	for _, p := range policies {
		for _, on := range p.On {
			if on == e.Name {
				triggered = append(triggered, p)
			}
		}
	}
	return triggered
}
