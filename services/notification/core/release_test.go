package core

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Acknowledgements delivered again, repetitions of writes, rejected commands
// between them and a new leader at any point: each acknowledged write becomes
// one notification, in log order, with its own events.
func TestFeedPublishesEachAcknowledgedWriteOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "commands")
		var acks []*eventsv1.WriteAcknowledged
		var want []int64
		commands := make([]*eventsv1.WriteCommandValidated, n)
		for i := range commands {
			commands[i] = &eventsv1.WriteCommandValidated{
				Kind: eventsv1.CommandKind_COMMAND_KIND_APPEND, Events: []*eventsv1.NewEvent{{EventId: fmt.Sprint(i)}},
			}
			switch rapid.IntRange(0, 3).Draw(t, "outcome") {
			case 0: // rejected
			case 1:
				acks = append(acks, &eventsv1.WriteAcknowledged{LogOffset: int64(i), DuplicateOf: 0, Command: eventsv1.CommandKind_COMMAND_KIND_APPEND})
			default:
				acks = append(acks, &eventsv1.WriteAcknowledged{LogOffset: int64(i), DuplicateOf: -1, Command: eventsv1.CommandKind_COMMAND_KIND_APPEND})
				want = append(want, int64(i))
			}
		}
		var got []int64
		feed, readTo := NewFeed(0, -1), 0
		for i := 0; i < len(acks); i++ {
			if rapid.IntRange(0, 9).Draw(t, "takeover") == 0 {
				last := int64(-1)
				if len(got) > 0 {
					last = got[len(got)-1]
				}
				feed, readTo = NewFeed(0, last), int(last)+1
				i = max(0, i-rapid.IntRange(0, 3).Draw(t, "again"))
			}
			if !feed.Wants(acks[i]) {
				continue
			}
			for ; readTo <= int(acks[i].GetLogOffset()); readTo++ {
				feed.Body(int64(readTo), commands[readTo])
			}
			note, err := feed.Release(acks[i], int64(i))
			if err != nil {
				t.Fatal(err)
			}
			if note.GetEvents()[0].GetEventId() != fmt.Sprint(note.GetLogOffset()) {
				t.Fatalf("notification at %d carries event %s", note.GetLogOffset(), note.GetEvents()[0].GetEventId())
			}
			got = append(got, note.GetLogOffset())
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("published %v, want %v", got, want)
		}
	})
}

func TestFeedDoesNotPassOverAMissingBody(t *testing.T) {
	feed := NewFeed(2, 4)
	_, err := feed.Release(&eventsv1.WriteAcknowledged{LogOffset: 9, DuplicateOf: -1}, 0)
	var missing *MissingBodyError
	if !errors.As(err, &missing) || missing.LogOffset != 9 {
		t.Fatalf("got %v, want the missing body of offset 9", err)
	}
}
