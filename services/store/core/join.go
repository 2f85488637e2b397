package core

import (
	"fmt"
	"slices"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Join brings the outcomes that replicas report together and releases them in
// log order, as soon as enough replicas agree: any replica's outcome counts,
// because all reach the same one.
type Join struct {
	shard    int32
	quorum   int
	state    *eventsv1.ShardAcknowledged
	pending  map[int64]*pending // Invariant: only offsets above state.LogOffset
	progress map[string]int64   // per replica: it reported everything up to here
	order    []int64            // offsets of pending, in log order
}

type pending struct {
	outcome *eventsv1.Outcome
	// Lowest place of this outcome in the topic of leaders and of followers; -1 is none.
	persistedAt, replicatedAt int64
}

// Source says through which topic an outcome came.
type Source int

// Sources.
const (
	Persisted  Source = iota // events_persisted: the leader
	Replicated               // events_replicated: a follower
)

// DivergedError says that two replicas reached different outcomes: the shard must halt.
type DivergedError struct {
	Shard     int32
	LogOffset int64
	Node      string
	Want, Got uint64
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("shard %d: at log offset %d replica %s has outcome hash %016x, others %016x", e.Shard, e.LogOffset, e.Node, e.Got, e.Want)
}

// NewJoin goes on from what was acknowledged before; quorum is how many replicas must report.
func NewJoin(shard int32, quorum int, from *eventsv1.ShardAcknowledged) *Join {
	return &Join{
		shard: shard, quorum: quorum, state: from,
		pending: map[int64]*pending{}, progress: map[string]int64{},
	}
}

// Report takes one outcome of a replica. It returns false when outcomes before
// it are missing; the replica repeats them.
func (j *Join) Report(node string, source Source, topicOffset int64, o *eventsv1.Outcome) (bool, error) {
	if o.GetLogOffset() <= j.state.GetLogOffset() {
		if o.GetLogOffset() == j.state.GetLogOffset() && o.GetOutcomeHash() != j.state.GetOutcomeHash() {
			return false, &DivergedError{j.shard, o.GetLogOffset(), node, j.state.GetOutcomeHash(), o.GetOutcomeHash()}
		}
		return true, nil
	}
	have, known := j.progress[node]
	if !known || have < j.state.GetLogOffset() {
		have = j.state.GetLogOffset()
	}
	if o.GetPreviousOffset() > have {
		return false, nil
	}
	p := j.pending[o.GetLogOffset()]
	if p == nil {
		p = &pending{outcome: o, persistedAt: -1, replicatedAt: -1}
		j.pending[o.GetLogOffset()] = p
		at, _ := slices.BinarySearch(j.order, o.GetLogOffset())
		j.order = slices.Insert(j.order, at, o.GetLogOffset())
	} else if p.outcome.GetOutcomeHash() != o.GetOutcomeHash() {
		return false, &DivergedError{j.shard, o.GetLogOffset(), node, p.outcome.GetOutcomeHash(), o.GetOutcomeHash()}
	}
	if source == Persisted && p.persistedAt < 0 {
		p.persistedAt = topicOffset
	}
	if source == Replicated && p.replicatedAt < 0 {
		p.replicatedAt = topicOffset
	}
	j.progress[node] = max(have, o.GetLogOffset())
	return true, nil
}

// Release returns what to announce: every outcome that enough replicas hold, in log order.
func (j *Join) Release() (acks []*eventsv1.WriteAcknowledged, rejections []*eventsv1.WriteRejected) {
	upTo := j.agreed()
	n := 0
	for _, offset := range j.order {
		if offset > upTo {
			break
		}
		n++
		o := j.pending[offset].outcome
		delete(j.pending, offset)
		switch o.GetKind() {
		case eventsv1.OutcomeKind_OUTCOME_KIND_APPLIED, eventsv1.OutcomeKind_OUTCOME_KIND_DUPLICATE:
			acks = append(acks, j.acknowledge(o))
			j.state.LastAcknowledgedOffset = offset
		case eventsv1.OutcomeKind_OUTCOME_KIND_REJECTED:
			rejections = append(rejections, j.reject(o))
			j.state.LastRejectedOffset = offset
		}
		j.state.LogOffset, j.state.Term, j.state.Seq = offset, o.GetTerm(), o.GetSeq()
		j.state.RequestOffset, j.state.OutcomeHash = o.GetRequestOffset(), o.GetOutcomeHash()
	}
	j.order = slices.Delete(j.order, 0, n)
	return acks, rejections
}

// agreed is the highest offset that at least quorum replicas have reported.
func (j *Join) agreed() int64 {
	if len(j.progress) < j.quorum {
		return -1
	}
	all := make([]int64, 0, len(j.progress))
	for _, p := range j.progress {
		all = append(all, p)
	}
	slices.Sort(all)
	return all[len(all)-j.quorum]
}

// State is what to keep for the next owner: from these places in the outcome
// topics (given the next ones to be read) it finds everything not yet announced.
func (j *Join) State(nextPersisted, nextReplicated int64) *eventsv1.ShardAcknowledged {
	s := &eventsv1.ShardAcknowledged{
		Shard: j.shard, LogOffset: j.state.GetLogOffset(), Term: j.state.GetTerm(), Seq: j.state.GetSeq(),
		RequestOffset: j.state.GetRequestOffset(), LastAcknowledgedOffset: j.state.GetLastAcknowledgedOffset(),
		LastRejectedOffset: j.state.GetLastRejectedOffset(), OutcomeHash: j.state.GetOutcomeHash(),
		PersistedOffset: nextPersisted, ReplicatedOffset: nextReplicated,
	}
	for _, p := range j.pending {
		if p.persistedAt >= 0 {
			s.PersistedOffset = min(s.PersistedOffset, p.persistedAt)
		}
		if p.replicatedAt >= 0 {
			s.ReplicatedOffset = min(s.ReplicatedOffset, p.replicatedAt)
		}
	}
	return s
}

// Acknowledged is the highest announced log offset.
func (j *Join) Acknowledged() int64 { return j.state.GetLogOffset() }

// Pending is how many outcomes wait for more replicas.
func (j *Join) Pending() int { return len(j.order) }

func (j *Join) acknowledge(o *eventsv1.Outcome) *eventsv1.WriteAcknowledged {
	duplicateOf := int64(-1)
	if o.GetKind() == eventsv1.OutcomeKind_OUTCOME_KIND_DUPLICATE {
		duplicateOf = o.GetDuplicateOf()
	}
	return &eventsv1.WriteAcknowledged{
		StreamId: o.GetStreamId(), NewVersion: o.GetNewVersion(), WriteId: o.GetWriteId(), FirstVersion: o.GetFirstVersion(),
		LogOffset: o.GetLogOffset(), PreviousAcknowledgedOffset: j.state.GetLastAcknowledgedOffset(), EventIds: o.GetEventIds(),
		ReplyTo: o.GetReplyTo(), Shard: j.shard, DuplicateOf: duplicateOf, Command: o.GetCommand(), CreatedAtMs: o.GetCreatedAtMs(),
	}
}

func (j *Join) reject(o *eventsv1.Outcome) *eventsv1.WriteRejected {
	return &eventsv1.WriteRejected{
		StreamId: o.GetStreamId(), WriteId: o.GetWriteId(), Reason: o.GetReason(), Message: o.GetMessage(),
		ExpectedVersion: o.GetExpectedVersion(), ActualVersion: o.GetActualVersion(), LogOffset: o.GetLogOffset(),
		ReplyTo: o.GetReplyTo(), Shard: j.shard, PreviousRejectedOffset: j.state.GetLastRejectedOffset(),
	}
}
