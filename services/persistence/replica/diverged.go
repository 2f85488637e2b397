package replica

import "fmt"

// DivergedError says that the log does not continue what this replica applied,
// or that it cannot be applied here. The replica stops and never skips.
type DivergedError struct {
	Shard int32
	// Offset is the first log offset that does not fit.
	Offset int64
	Reason string
	// Repair is what an operator does about it.
	Repair string
	// Expected and Actual are hashes of the record in question, where that is the reason.
	Expected, Actual uint64
	// Err is the cause, if it is another error.
	Err error
}

// Error implements error.
func (e *DivergedError) Error() string {
	s := fmt.Sprintf("shard %d does not continue at log offset %d: %s", e.Shard, e.Offset, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + " (" + e.Repair + ")"
}

// Unwrap gives the cause.
func (e *DivergedError) Unwrap() error { return e.Err }

const (
	repairTruncated  = "the log lost records that this replica has: refill it from the raw records of the store (exesdb up does), or, if the log is right, remove this replica's data directory so that it applies the log again"
	repairSwapped    = "the log is not the one that this replica applied: point it to the right Kafka and store id, or remove its data directory so that it applies this log from the start"
	repairCheckpoint = "the log does not reach back to where this replica is: start it from the data directory of another replica, copied while that one is stopped"
	repairUpgrade    = "upgrade this replica, then start it again"
	repairGap        = "records of the log are missing or were repeated: restore the partition from another broker; the replica goes on by itself after a restart"
	repairStore      = "check the data directory with exesdb verify; if it is damaged, remove it so that the replica applies the log again"
)
