// Package bench measures an event store beside two kinds of peers: what its own pipeline could do at most (the limit:
// the same hops over the same broker without any logic), and stores that give the same promise (an expected version,
// on disk before the answer).
//
// All run on one machine in one go, taking turns of about a second within each row, so that a noisy neighbour hits
// them alike. Every server is a process of its own; the load is a closed loop from this one: each writer sends
// its next append when the one before was answered.
package bench
