package core

// RulesVersion is the newest version of the apply rules that this code knows.
const RulesVersion = 1

// Rules are the settings that decide outcomes. They change only by records of
// the log, so that replicas of different releases or settings cannot drift apart.
type Rules struct {
	// Version of the apply rules' code. Invariant: 1 <= Version <= RulesVersion.
	Version int32
	// DedupeWindow is for how many log offsets a write_id is remembered. Invariant: > 0.
	DedupeWindow int64
	// MaxEventBytes bounds data and metadata of one event, in bytes. Invariant: > 0.
	MaxEventBytes int64
	// MaxWriteBytes bounds data and metadata of all events of a write, in bytes. Invariant: > 0.
	MaxWriteBytes int64
	// MaxWriteEvents bounds the events of a write. Invariant: > 0.
	MaxWriteEvents int32
}

// DefaultRules hold until the first RULES record.
func DefaultRules() Rules {
	return Rules{
		Version:        1,
		DedupeWindow:   1_000_000,
		MaxEventBytes:  1 << 20,
		MaxWriteBytes:  4 << 20,
		MaxWriteEvents: 1000,
	}
}

// State is what the log has come to in one shard, apart from what a View holds.
// It is a value: Apply takes one and returns the next.
type State struct {
	// Applied is the newest applied log offset; -1 before the first.
	Applied int64
	// Term is the offset of the newest claim; -1 before the first. Invariant: Term <= Applied.
	Term int64
	// Seq is the place of the newest counted command in Term; 0 right after the claim.
	Seq int64
	// RequestOffset is the highest request offset counted; -1 before the first. It never goes back.
	RequestOffset int64
	// TimeMS is the shard's clock in milliseconds since the Unix epoch. It never goes back.
	TimeMS int64
	// OutcomeHash chains all outcomes up to Applied; equal on all replicas.
	OutcomeHash uint64
	// RecordHash is the hash of the log record at Applied.
	RecordHash uint64
	// Rules in effect for the next record.
	Rules Rules
	// ForgottenBelow: writes recorded at smaller offsets are not known any more. It never goes back.
	ForgottenBelow int64
	// SweptBelow: the entries of writes recorded at smaller offsets are deleted.
	// Invariant: SweptBelow <= ForgottenBelow. It lags only after the window shrank.
	SweptBelow int64
}

// Initial is the state before the first record of a log.
func Initial() State {
	return State{Applied: -1, Term: -1, RequestOffset: -1, Rules: DefaultRules()}
}
