package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/exesdb/exesdb/services/persistence/core"
	"github.com/exesdb/exesdb/shared/bus"
)

// continues checks that the log goes on where this replica stopped, and gives
// the offset that its next record gets.
func (r *Replica) continues(ctx context.Context) (int64, error) {
	applied := r.state.Applied
	oldest, next, err := r.opts.Bus.Watermark(ctx, r.topic, r.shard)
	if err != nil {
		return 0, fmt.Errorf("check the log of shard %d: %w", r.shard, err)
	}
	switch {
	case next < applied+1:
		return 0, r.diverged(next, fmt.Sprintf("the log ends at offset %d, this replica has applied %d", next-1, applied), repairTruncated)
	case oldest > applied+1:
		return 0, r.diverged(applied+1, fmt.Sprintf("the log begins at offset %d, this replica has applied %d", oldest, applied), repairCheckpoint)
	case applied < oldest: // nothing applied, or just that record was removed
		return next, nil
	}
	return next, r.sameRecord(ctx, applied)
}

// sameRecord compares the record at the applied offset with the one that was applied.
func (r *Replica) sameRecord(ctx context.Context, at int64) error {
	reader, err := r.opts.Bus.Reader(bus.ReaderOptions{Topic: r.topic, Partition: r.shard, Offset: at, MaxBytes: 1 << 10})
	if err != nil {
		return fmt.Errorf("check the log of shard %d: %w", r.shard, err)
	}
	defer func() { _ = reader.Close() }()
	records, err := reader.Poll(ctx)
	var gone *bus.OffsetGoneError
	if errors.As(err, &gone) && gone.Oldest == at+1 { // removed since we looked
		return nil
	}
	if err != nil {
		return r.readError(err)
	}
	if records[0].Offset != at {
		return r.diverged(at, fmt.Sprintf("the log has no record there, its next is at %d", records[0].Offset), repairSwapped)
	}
	hash := recordHash(records[0])
	if hash == r.state.RecordHash {
		return nil
	}
	reason := "the log has another record there than the one that was applied"
	if cmd := decode(records[0]); cmd.Record != nil {
		reason += fmt.Sprintf(" (it has term %d, seq %d; applied were term %d, seq %d)", cmd.Record.Term, cmd.Record.Seq, r.state.Term, r.state.Seq)
	}
	e := r.diverged(at, reason, repairSwapped)
	e.Expected, e.Actual = r.state.RecordHash, hash
	return e
}

func (r *Replica) diverged(offset int64, reason, repair string) *DivergedError {
	return &DivergedError{Shard: r.shard, Offset: offset, Reason: reason, Repair: repair}
}

// readError tells a log that does not continue from one that cannot be read now.
func (r *Replica) readError(err error) error {
	var gone *bus.OffsetGoneError
	var gap *bus.OffsetGapError
	switch {
	case errors.As(err, &gone) && gone.Asked > gone.Next:
		e := r.diverged(gone.Asked, "the log was cut", repairTruncated)
		e.Err = err
		return e
	case errors.As(err, &gone):
		e := r.diverged(gone.Asked, "the log begins later", repairCheckpoint)
		e.Err = err
		return e
	case errors.As(err, &gap):
		e := r.diverged(gap.Asked, "the log has a hole", repairGap)
		e.Err = err
		return e
	}
	return fmt.Errorf("read log of shard %d: %w", r.shard, err)
}

// applyError tells a log that must not be applied here from a store that cannot be read.
func (r *Replica) applyError(offset int64, err error) error {
	e := r.diverged(offset, "it cannot be applied", repairStore)
	e.Err = err
	var gap *core.GapError
	var order *core.OrderError
	var rules *core.RulesError
	var absent *core.MissingError
	switch {
	case errors.As(err, &gap), errors.As(err, &order):
		e.Repair = repairGap
	case errors.As(err, &rules):
		e.Repair = repairUpgrade
	case errors.As(err, &absent):
	default:
		return fmt.Errorf("apply log offset %d of shard %d: %w", offset, r.shard, err)
	}
	return e
}
