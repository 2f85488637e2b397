package core

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

func start() *eventsv1.ShardAcknowledged {
	return &eventsv1.ShardAcknowledged{LogOffset: -1, Term: -1, RequestOffset: -1, LastAcknowledgedOffset: -1, LastRejectedOffset: -1}
}

func outcomes(t *rapid.T, n int) []*eventsv1.Outcome {
	kinds := []eventsv1.OutcomeKind{
		eventsv1.OutcomeKind_OUTCOME_KIND_APPLIED, eventsv1.OutcomeKind_OUTCOME_KIND_DUPLICATE, eventsv1.OutcomeKind_OUTCOME_KIND_REJECTED,
		eventsv1.OutcomeKind_OUTCOME_KIND_SKIPPED, eventsv1.OutcomeKind_OUTCOME_KIND_CONTROL,
	}
	all := make([]*eventsv1.Outcome, n)
	for i := range all {
		all[i] = &eventsv1.Outcome{
			LogOffset: int64(i), PreviousOffset: int64(i) - 1, Kind: rapid.SampledFrom(kinds).Draw(t, "kind"),
			OutcomeHash: uint64(i)*31 + 7, RequestOffset: int64(i),
		}
	}
	return all
}

// Whatever the replicas' pace, repetitions and gaps: every offset is released
// exactly once, in log order, and not before enough replicas reported it.
func TestJoinReleasesInLogOrderOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := outcomes(t, rapid.IntRange(1, 30).Draw(t, "n"))
		replicas := []string{"a", "b", "c"}
		quorum := rapid.IntRange(1, 3).Draw(t, "quorum")
		j := NewJoin(0, quorum, start())
		next := map[string]int{}
		var released []int64
		last := int64(-1)
		take := func() {
			acks, rejections := j.Release()
			seen := map[int64]bool{}
			for _, a := range acks {
				if a.GetPreviousAcknowledgedOffset() >= a.GetLogOffset() {
					t.Fatalf("acknowledgement %d says that %d came before it", a.GetLogOffset(), a.GetPreviousAcknowledgedOffset())
				}
				seen[a.GetLogOffset()] = true
			}
			for _, r := range rejections {
				seen[r.GetLogOffset()] = true
			}
			for o := last + 1; o <= j.Acknowledged(); o++ {
				holders := 0
				for _, r := range replicas {
					if int64(next[r]) > o {
						holders++
					}
				}
				if holders < quorum {
					t.Fatalf("offset %d released with %d of %d replicas", o, holders, quorum)
				}
				k := log[o].GetKind()
				silent := k == eventsv1.OutcomeKind_OUTCOME_KIND_SKIPPED || k == eventsv1.OutcomeKind_OUTCOME_KIND_CONTROL
				if seen[o] == silent {
					t.Fatalf("offset %d of kind %v: announced %v", o, k, seen[o])
				}
				released = append(released, o)
			}
			last = j.Acknowledged()
		}
		report := func(r string, i int) {
			whole, err := j.Report(r, Persisted, int64(i), log[i])
			if err != nil {
				t.Fatal(err)
			}
			if whole && i == next[r] {
				next[r]++
			}
			if !whole && i <= next[r] {
				t.Fatalf("replica %s: outcome %d taken for one after a gap, it has %d", r, i, next[r])
			}
		}
		for range rapid.IntRange(0, 100).Draw(t, "steps") {
			r := rapid.SampledFrom(replicas).Draw(t, "replica")
			i := min(rapid.IntRange(max(0, next[r]-3), next[r]+2).Draw(t, "offset"), len(log)-1)
			if i > next[r] && int64(i-1) > j.Acknowledged() {
				if whole, err := j.Report(r, Persisted, int64(i), log[i]); err != nil || whole {
					t.Fatalf("an outcome after a gap was taken: %v %v", whole, err)
				}
				continue
			}
			for n := next[r]; n < i; n++ { // announced by others in the meantime: this replica has them too
				next[r]++
			}
			report(r, i)
			take()
		}
		for _, r := range replicas {
			for i := next[r]; i < len(log); i++ {
				report(r, i)
			}
			take()
		}
		if len(released) != len(log) {
			t.Fatalf("released %d of %d", len(released), len(log))
		}
	})
}

func TestJoinHaltsWhenReplicasDisagree(t *testing.T) {
	j := NewJoin(3, 2, start())
	o := &eventsv1.Outcome{LogOffset: 0, PreviousOffset: -1, OutcomeHash: 1}
	if _, err := j.Report("a", Persisted, 0, o); err != nil {
		t.Fatal(err)
	}
	_, err := j.Report("b", Replicated, 0, &eventsv1.Outcome{LogOffset: 0, PreviousOffset: -1, OutcomeHash: 2})
	var diverged *DivergedError
	if !errors.As(err, &diverged) || diverged.Node != "b" || diverged.Shard != 3 {
		t.Fatalf("got %v, want a divergence of b", err)
	}
}

// The next owner reads outcomes from the kept places and announces the rest.
func TestStateOfJoinIsEnoughForTheNextOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := outcomes(t, rapid.IntRange(1, 20).Draw(t, "n"))
		read := rapid.IntRange(0, len(log)).Draw(t, "read")
		first := NewJoin(0, 2, start())
		for i := range read {
			if _, err := first.Report("a", Persisted, int64(i), log[i]); err != nil {
				t.Fatal(err)
			}
		}
		followed := rapid.IntRange(0, read).Draw(t, "followed")
		for i := range followed {
			if _, err := first.Report("b", Replicated, int64(i), log[i]); err != nil {
				t.Fatal(err)
			}
		}
		first.Release()
		kept := first.State(int64(read), int64(followed))
		second := NewJoin(0, 2, kept)
		for i := kept.GetPersistedOffset(); i < int64(len(log)); i++ {
			if _, err := second.Report("a", Persisted, i, log[i]); err != nil {
				t.Fatal(err)
			}
		}
		for i := kept.GetReplicatedOffset(); i < int64(len(log)); i++ {
			if _, err := second.Report("b", Replicated, i, log[i]); err != nil {
				t.Fatal(err)
			}
		}
		second.Release()
		if second.Acknowledged() != int64(len(log))-1 {
			t.Fatalf("the next owner came to %d of %d", second.Acknowledged(), len(log)-1)
		}
	})
}
