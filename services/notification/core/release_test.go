package core

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

// Acknowledgements delivered again or lost to retention, repetitions of writes, rejected commands between them and a
// new leader at any point: each acknowledged write becomes one notification, in log order, with its own events.
func TestFeedPublishesEachAcknowledgedWriteOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "commands")
		var acks []*eventsv1.WriteAcknowledged
		var want []int64
		previous := int64(-1)
		acknowledge := func(at int, duplicateOf int64) {
			acks = append(acks, &eventsv1.WriteAcknowledged{
				LogOffset: int64(at), PreviousAcknowledgedOffset: previous, DuplicateOf: duplicateOf, Command: eventsv1.CommandKind_COMMAND_KIND_APPEND,
			})
			previous = int64(at)
		}
		commands := make([]*eventsv1.WriteCommandValidated, n)
		for i := range commands {
			commands[i] = &eventsv1.WriteCommandValidated{
				Kind: eventsv1.CommandKind_COMMAND_KIND_APPEND, Events: []*eventsv1.NewEvent{{EventId: fmt.Sprint(i)}},
			}
			switch rapid.IntRange(0, 3).Draw(t, "outcome") {
			case 0: // rejected
			case 1:
				acknowledge(i, 0)
			default:
				acknowledge(i, -1)
				want = append(want, int64(i))
			}
		}
		// Retention takes the oldest; the last stays, so that somebody can notice.
		oldest := 0
		if len(acks) > 0 && len(want) > 0 && acks[len(acks)-1].GetDuplicateOf() < 0 {
			oldest = rapid.IntRange(0, len(acks)-1).Draw(t, "oldest acknowledgement")
		}
		var got []*eventsv1.NotificationTriggered
		publish := func(note *eventsv1.NotificationTriggered) {
			last := int64(-1)
			if len(got) > 0 {
				last = got[len(got)-1].GetLogOffset()
			}
			if note.GetPreviousOffset() != last {
				t.Fatalf("notification at %d names %d as the one before, that is %d", note.GetLogOffset(), note.GetPreviousOffset(), last)
			}
			if note.GetEvents()[0].GetEventId() != fmt.Sprint(note.GetLogOffset()) {
				t.Fatalf("notification at %d carries event %s", note.GetLogOffset(), note.GetEvents()[0].GetEventId())
			}
			got = append(got, note)
		}
		feed, readTo := NewFeed(0, -1, -1), 0
		for i := oldest; i < len(acks); i++ {
			if rapid.IntRange(0, 9).Draw(t, "takeover") == 0 {
				last, at := int64(-1), int64(-1)
				if len(got) > 0 {
					last, at = got[len(got)-1].GetLogOffset(), got[len(got)-1].GetAcknowledgedAt()
				}
				feed, readTo, i = NewFeed(0, last, at), int(last)+1, max(oldest, int(at))
			}
			link := feed.Observe(acks[i], int64(i))
			if link == Repeated {
				continue
			}
			if link == Missed {
				for _, offset := range want {
					if offset > feed.Cursor() && offset < acks[i].GetLogOffset() {
						publish(feed.Recorded([]*eventsv1.RecordedEvent{{EventId: fmt.Sprint(offset), LogOffset: offset}}))
					}
				}
			}
			if feed.Wants(acks[i]) {
				for ; readTo <= int(acks[i].GetLogOffset()); readTo++ {
					feed.Body(int64(readTo), commands[readTo])
				}
				note, err := feed.Release(acks[i], int64(i))
				if err != nil {
					t.Fatal(err)
				}
				publish(note)
			}
			feed.Take(acks[i], int64(i))
		}
		offsets := []int64{}
		for _, note := range got {
			offsets = append(offsets, note.GetLogOffset())
		}
		if fmt.Sprint(offsets) != fmt.Sprint(want) {
			t.Fatalf("published %v, want %v", offsets, want)
		}
	})
}

func TestFeedDoesNotPassOverAMissingBody(t *testing.T) {
	feed := NewFeed(2, 4, 0)
	_, err := feed.Release(&eventsv1.WriteAcknowledged{LogOffset: 9, DuplicateOf: -1}, 0)
	var missing *MissingBodyError
	if !errors.As(err, &missing) || missing.LogOffset != 9 {
		t.Fatalf("got %v, want the missing body of offset 9", err)
	}
}

// All of the feed has expired: what was before the oldest acknowledgement has been published in its time.
func TestFeedThatExpiredGoesOnWithTheOldestAcknowledgement(t *testing.T) {
	feed := NewFeed(0, Unknown, -1)
	ack := &eventsv1.WriteAcknowledged{LogOffset: 9, PreviousAcknowledgedOffset: 7, DuplicateOf: -1, Command: eventsv1.CommandKind_COMMAND_KIND_APPEND}
	if link := feed.Observe(ack, 5); link != Next || feed.Cursor() != 7 || !feed.Wants(ack) {
		t.Fatalf("link %v after %d, want the next after 7", link, feed.Cursor())
	}
}

// A write that is nowhere any more is named by the notification after it, as the one before.
func TestFeedShowsWhatIsLost(t *testing.T) {
	feed := NewFeed(0, 3, 0)
	feed.Lose(5)
	if n := feed.Recorded([]*eventsv1.RecordedEvent{{LogOffset: 7}}); n.GetPreviousOffset() != 5 {
		t.Fatalf("previous offset %d, want 5", n.GetPreviousOffset())
	}
}
