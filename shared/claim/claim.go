// Package claim decides which records of a shard's log count.
//
// The owner of a shard begins with a claim in the log; its term is the claim's
// offset. Every command carries the term of its owner, its place in that term
// (seq) and the offset of the request that it came from. Whoever reads the log
// reaches the same verdicts, so two owners at once, a frozen one that wakes, or
// a request taken twice have no effect.
package claim

import (
	"fmt"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Fence is what the log up to some offset says about its owner and its requests.
// The zero value is not a valid start: use Start.
type Fence struct {
	Term          int64 // offset of the newest claim; -1 before the first
	Seq           int64 // seq of the newest record of that term; Invariant: it grows by exactly 1
	RequestOffset int64 // highest request offset that counted; -1 before the first
}

// Start is the fence of an empty log.
func Start() Fence { return Fence{Term: -1, RequestOffset: -1} }

// Verdict says whether a record counts.
type Verdict int

// Verdicts.
const (
	Counts   Verdict = iota // a command to apply, a claim, or a change of rules
	Stale                   // written by an owner that was no longer the owner
	Repeated                // its request was already taken, or the record itself was written again
)

// GapError says that records of a term are missing from the log: the shard must halt.
type GapError struct {
	Offset, Term, Want, Got int64
}

func (e *GapError) Error() string {
	return fmt.Sprintf("log offset %d: term %d continues at seq %d, want %d: records of the log are missing", e.Offset, e.Term, e.Got, e.Want)
}

// Admit takes the record at offset into account and tells whether it counts.
// After a *GapError the fence is as before.
func (f *Fence) Admit(offset int64, cmd *eventsv1.WriteCommandValidated) (Verdict, error) {
	if cmd.GetKind() == eventsv1.CommandKind_COMMAND_KIND_CLAIM {
		f.Term, f.Seq = offset, 0
		return Counts, nil
	}
	// A record without a kind is no owner's: bytes that happen to decode.
	if cmd.GetTerm() != f.Term || cmd.GetKind() == eventsv1.CommandKind_COMMAND_KIND_UNSPECIFIED {
		return Stale, nil
	}
	if cmd.GetSeq() <= f.Seq {
		return Repeated, nil // delivered again: the first one was taken into account
	}
	if cmd.GetSeq() != f.Seq+1 {
		return Stale, &GapError{Offset: offset, Term: f.Term, Want: f.Seq + 1, Got: cmd.GetSeq()}
	}
	f.Seq++
	if cmd.GetKind() == eventsv1.CommandKind_COMMAND_KIND_RULES {
		return Counts, nil
	}
	if cmd.GetRequestOffset() <= f.RequestOffset {
		return Repeated, nil
	}
	f.RequestOffset = cmd.GetRequestOffset()
	return Counts, nil
}
