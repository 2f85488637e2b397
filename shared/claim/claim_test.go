package claim

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

type record = eventsv1.WriteCommandValidated

// owner writes as the store does: a claim, then commands for the requests after
// those that counted before its claim, whether or not it is still the owner.
type owner struct {
	term, seq, next int64
}

// history is a log that owners write, each going on after it was superseded.
func history(t *rapid.T) []*record {
	var log []*record
	var owners []*owner
	fence := Start()
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		switch what := rapid.IntRange(0, 9).Draw(t, "what"); {
		case what == 0 || len(owners) == 0:
			offset := int64(len(log))
			claim := &record{Kind: eventsv1.CommandKind_COMMAND_KIND_CLAIM}
			log = append(log, claim)
			if _, err := fence.Admit(offset, claim); err != nil {
				t.Fatal(err)
			}
			owners = append(owners, &owner{term: offset, next: fence.RequestOffset + 1})
		case what == 1:
			log = append(log, rapid.SampledFrom(log).Draw(t, "again"))
			last := log[len(log)-1]
			if last.GetKind() == eventsv1.CommandKind_COMMAND_KIND_CLAIM {
				log = log[:len(log)-1] // a claim written again is a new claim
				continue
			}
			if verdict, err := fence.Admit(int64(len(log))-1, last); err != nil || verdict == Counts {
				t.Fatalf("a record written again: verdict %v, %v", verdict, err)
			}
		default:
			o := rapid.SampledFrom(owners).Draw(t, "owner")
			o.seq++
			cmd := &record{Kind: eventsv1.CommandKind_COMMAND_KIND_APPEND, Term: o.term, Seq: o.seq, RequestOffset: o.next}
			o.next++
			log = append(log, cmd)
			if _, err := fence.Admit(int64(len(log))-1, cmd); err != nil {
				t.Fatal(err)
			}
		}
	}
	return log
}

// Owners at once, frozen ones that wake, and records written again: every
// request counts once, in order, and none is passed over.
func TestEveryRequestCountsOnceInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fence, want := Start(), int64(0)
		for offset, r := range history(t) {
			verdict, err := fence.Admit(int64(offset), r)
			if err != nil {
				t.Fatal(err)
			}
			if verdict != Counts || r.GetKind() != eventsv1.CommandKind_COMMAND_KIND_APPEND {
				continue
			}
			if r.GetTerm() != fence.Term {
				t.Fatalf("offset %d counts in term %d, the newest claim is %d", offset, r.GetTerm(), fence.Term)
			}
			if r.GetRequestOffset() != want {
				t.Fatalf("request %d counts, want %d", r.GetRequestOffset(), want)
			}
			want++
		}
	})
}

// A record that is missing from the newest term is noticed at the next of that term.
func TestAMissingRecordHaltsTheShard(t *testing.T) {
	fence := Start()
	log := []*record{
		{Kind: eventsv1.CommandKind_COMMAND_KIND_CLAIM},
		{Kind: eventsv1.CommandKind_COMMAND_KIND_APPEND, Term: 0, Seq: 1, RequestOffset: 0},
		{Kind: eventsv1.CommandKind_COMMAND_KIND_APPEND, Term: 0, Seq: 3, RequestOffset: 2},
	}
	var err error
	for offset, r := range log {
		_, err = fence.Admit(int64(offset), r)
	}
	var gap *GapError
	if !errors.As(err, &gap) || gap.Want != 2 || gap.Got != 3 {
		t.Fatalf("got %v, want a gap at seq 2", err)
	}
	if fence.Seq != 1 || fence.RequestOffset != 0 {
		t.Fatalf("the fence moved over the gap: %+v", fence)
	}
}
