package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fake answers after a delay and checks expected versions.
type fake struct {
	delay time.Duration
	fail  int // every fail-th append, 0 is none

	mu    sync.Mutex
	calls int
	heads map[string]int64
}

func (*fake) Name() string { return "fake" }
func (*fake) Close() error { return nil }

func (f *fake) Append(ctx context.Context, stream string, expected int64, events [][]byte) (int64, error) {
	if !pause(ctx, f.delay) {
		return 0, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls++; f.fail > 0 && f.calls%f.fail == 0 {
		return 0, errors.New("refused")
	}
	head, ok := f.heads[stream]
	if !ok {
		head = NoStream
	}
	if expected != Any && expected != head {
		return 0, fmt.Errorf("stream %s is at %d, expected %d", stream, head, expected)
	}
	f.heads[stream] = head + int64(len(events))
	return f.heads[stream], nil
}

func drive(t *testing.T, f *fake, w Workload) Result {
	t.Helper()
	var r Result
	synctest.Test(t, func(t *testing.T) {
		r = Drive(t.Context(), f, w, Timing{WarmUp: time.Second, Measure: 2 * time.Second, Grace: time.Second})
	})
	return r
}

func TestDriveCountsWhatIsAnsweredWithinTheWindow(t *testing.T) {
	for _, hot := range []bool{false, true} {
		f := &fake{delay: 10 * time.Millisecond, heads: map[string]int64{}}
		r := drive(t, f, Workload{Streams: "s", Writers: 8, Batch: 5, Hot: hot, Event: Payload(64)})
		// 8 writers, 100 appends a second each, 2 s, 5 events; the edge belongs to the window on one side only.
		if r.Events != 8*200*5 || r.Errors != 0 {
			t.Errorf("hot %v: %d events, %d errors (%s), want %d and none", hot, r.Events, r.Errors, r.FirstError, 8*200*5)
		}
		if rate := r.Rate(); rate != 4000 {
			t.Errorf("hot %v: %v events/s, want 4000", hot, rate)
		}
		if p := r.Quantile(99); p < 9990*time.Microsecond || p > 10010*time.Microsecond {
			t.Errorf("hot %v: p99 %v, want 10 ms", hot, p)
		}
		if want := map[bool]int{false: 8, true: 1}[hot]; len(f.heads) != want {
			t.Errorf("hot %v: %d streams, want %d", hot, len(f.heads), want)
		}
	}
}

func TestDriveCountsErrorsAndGoesOnElsewhere(t *testing.T) {
	f := &fake{delay: 10 * time.Millisecond, fail: 7, heads: map[string]int64{}}
	r := drive(t, f, Workload{Streams: "s", Writers: 4, Batch: 1, Event: Payload(64)})
	if r.Errors != int64(f.calls/7) || r.FirstError != "refused" {
		t.Errorf("%d errors (%s), want %d refused", r.Errors, r.FirstError, f.calls/7)
	}
	if r.Events == 0 {
		t.Error("nothing was appended after an error")
	}
}

func TestDriveDoesNotWaitForEverForAnAnswer(t *testing.T) {
	f := &fake{delay: time.Hour, heads: map[string]int64{}}
	r := drive(t, f, Workload{Streams: "s", Writers: 3, Event: Payload(64)})
	if r.Errors != 3 || r.Events != 0 {
		t.Errorf("%d events and %d errors, want none and 3", r.Events, r.Errors)
	}
}

func TestMergeOfResults(t *testing.T) {
	var total Result
	for ms := int64(1); ms <= 100; ms++ {
		one := Result{Events: 1, Elapsed: time.Second, Latency: newLatency()}
		if err := one.Latency.RecordValue(ms * 1000); err != nil {
			t.Fatal(err)
		}
		total.Merge(one)
	}
	if total.Events != 100 || total.Rate() != 1 {
		t.Errorf("%d events, %v/s, want 100 and 1", total.Events, total.Rate())
	}
	for q, want := range map[float64]time.Duration{50: 50 * time.Millisecond, 99: 99 * time.Millisecond} {
		if got := total.Quantile(q); (got - want).Abs() > want/500 {
			t.Errorf("p%v is %v, want %v", q, got, want)
		}
	}
}

func TestPayloadIsJSONOfThatSize(t *testing.T) {
	for _, n := range []int{16, 512, 4096} {
		if p := Payload(n); len(p) != n || !json.Valid(p) {
			t.Errorf("payload of %d bytes has %d, valid JSON: %v", n, len(p), json.Valid(p))
		}
	}
}
