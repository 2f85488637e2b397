package core

import (
	"fmt"

	"github.com/exesdb/exesdb/shared/claim"
)

// GapError says that commands of a term are missing. Nothing of the
// command was applied; the shard must halt.
type GapError = claim.GapError

// OrderError says that a record was applied already. The shard must halt.
type OrderError struct {
	Offset, Applied int64
}

// Error implements error.
func (e *OrderError) Error() string {
	return fmt.Sprintf("log offset %d: already applied through %d", e.Offset, e.Applied)
}

// RulesError says that the log asks for apply rules that this release does not
// know. The shard must halt until the replica is upgraded.
type RulesError struct {
	Offset int64
	// Want is the version in the log, Known the newest that this release knows.
	Want, Known int32
}

// Error implements error.
func (e *RulesError) Error() string {
	return fmt.Sprintf("log offset %d: apply rules version %d, this release knows up to %d: upgrade this replica", e.Offset, e.Want, e.Known)
}

// MissingError says that the store lacks something that it must hold.
type MissingError struct {
	// What is missing, with its key.
	What string
}

// Error implements error.
func (e *MissingError) Error() string { return "the store lacks " + e.What }
