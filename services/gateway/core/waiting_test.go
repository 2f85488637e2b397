package core

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// The table agrees with a plain list, whatever comes twice, never, or in any order.
func TestWaitingAgreesWithAList(t *testing.T) {
	type entry struct {
		key Key
		w   int
	}
	rapid.Check(t, func(t *rapid.T) {
		bound := rapid.IntRange(1, 8).Draw(t, "bound")
		table := NewWaiting[int](bound)
		var model []entry
		next := 0
		drawKey := func() Key {
			return Key{fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "id")), fmt.Sprint(rapid.IntRange(0, 1).Draw(t, "reply"))}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				key := drawKey()
				next++
				err := table.Add(key, next)
				if full := len(model) == bound; full != errors.Is(err, ErrFull) || full && Bound(err) != bound {
					t.Fatalf("Add with %d of %d: %v", len(model), bound, err)
				}
				if err == nil {
					model = append(model, entry{key, next})
				}
			},
			"resolve": func(t *rapid.T) {
				key := drawKey()
				var want []int
				model = slices.DeleteFunc(model, func(e entry) bool {
					if e.key == key {
						want = append(want, e.w)
					}
					return e.key == key
				})
				if got := table.Resolve(key); !slices.Equal(got, want) {
					t.Fatalf("Resolve(%v) = %v, want %v", key, got, want)
				}
			},
			"remove": func(t *rapid.T) {
				e := entry{drawKey(), rapid.IntRange(1, next+1).Draw(t, "w")}
				i := slices.Index(model, e)
				if table.Remove(e.key, e.w) != (i >= 0) {
					t.Fatalf("Remove(%v), want %v", e, i >= 0)
				}
				if i >= 0 {
					model = slices.Delete(model, i, i+1)
				}
			},
			"": func(t *rapid.T) {
				if table.Len() != len(model) {
					t.Fatalf("Len() = %d, want %d", table.Len(), len(model))
				}
				for _, waiting := range table.table {
					if len(waiting) == 0 {
						t.Fatal("an empty list stays in the table")
					}
				}
			},
		})
	})
}

func TestAnswersToAnotherBodyMatchNoOne(t *testing.T) {
	mine := &eventsv1.StreamWriteRequested{WriteId: "w", ReplyTo: ReplyTo("gateway-0", []byte("12345678first"))}
	other := ReplyTo("gateway-0", []byte("87654321second"))
	if KeyOf(mine) == (Outcome{Acknowledged: &eventsv1.WriteAcknowledged{WriteId: "w", ReplyTo: other}}).Key() {
		t.Fatal("an acknowledgement of another body is taken for ours")
	}
	if KeyOf(mine) != (Outcome{Rejected: &eventsv1.WriteRejected{WriteId: "w", ReplyTo: mine.GetReplyTo()}}).Key() {
		t.Fatal("our answer is not ours")
	}
}

// Every acknowledgement is passed on exactly once, whatever is repeated, and
// whatever was missing comes through when it is read again.
func TestChainPassesEachOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var offsets []int64
		at := int64(-1)
		for range rapid.IntRange(1, 20).Draw(t, "n") {
			at += rapid.Int64Range(1, 3).Draw(t, "step")
			offsets = append(offsets, at)
		}
		previous := func(i int) int64 {
			if i == 0 {
				return -1
			}
			return offsets[i-1]
		}
		// One gap, at most: a stretch that is not seen at first.
		from := rapid.IntRange(1, len(offsets)).Draw(t, "from")
		to := rapid.IntRange(from, len(offsets)).Draw(t, "to")
		var chain Chain
		passed := map[int64]int{}
		missed := false
		observe := func(i int) Link {
			link := chain.Observe(previous(i), offsets[i])
			if link != Repeated {
				passed[offsets[i]]++
			}
			return link
		}
		for i := 0; i < from; i++ {
			if link := observe(i); link != Next {
				t.Fatalf("%d is %v", offsets[i], link)
			}
			for range rapid.IntRange(0, 2).Draw(t, "again") {
				if link := observe(rapid.IntRange(0, i).Draw(t, "which")); link != Repeated {
					t.Fatalf("a repeated one is %v", link)
				}
			}
		}
		for i := to; i < len(offsets); i++ {
			link := observe(i)
			if i == to && to > from {
				missed = true
				if link != Missed {
					t.Fatalf("%d after a gap is %v", offsets[i], link)
				}
				if after, last, open := chain.Gap(); !open || after != offsets[from-1] || last != offsets[to-1] {
					t.Fatalf("gap is %d to %d, %v", after, last, open)
				}
			} else if link != Next {
				t.Fatalf("%d is %v", offsets[i], link)
			}
		}
		if missed { // read again: at first without, then with what was missing
			for i := to; i < len(offsets); i++ {
				if link := observe(i); link != Repeated {
					t.Fatalf("%d read again is %v", offsets[i], link)
				}
			}
			for i := from - 1; i < len(offsets); i++ {
				observe(i)
			}
			if _, _, open := chain.Gap(); open {
				t.Fatal("the gap stays open")
			}
		}
		for i, offset := range offsets {
			want := 1
			if i >= from && i < to && !missed {
				want = 0
			}
			if passed[offset] != want {
				t.Fatalf("%d was passed %d times, want %d", offset, passed[offset], want)
			}
		}
	})
}

func TestFloorNeverFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := NewFloor(3)
		highest := map[int32]int64{0: -1, 1: -1, 2: -1}
		for range 20 {
			shard, offset := rapid.Int32Range(-1, 3).Draw(t, "shard"), rapid.Int64Range(-1, 9).Draw(t, "offset")
			before, known := highest[shard]
			if got := f.Raise(shard, offset); got != (known && offset > before) {
				t.Fatalf("Raise(%d, %d) = %v at %d", shard, offset, got, before)
			}
			if known {
				highest[shard] = max(before, offset)
			}
			for s, want := range highest {
				if f.At(s) != want {
					t.Fatalf("At(%d) = %d, want %d", s, f.At(s), want)
				}
			}
		}
	})
}
