package bus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestPollHonoursContext(t *testing.T) {
	k := newCluster(t, 1, kfake.SeedTopics(1, "t"))
	c := dial(t, configOf(k))
	p := newProducer(t, c)
	r := newReader(t, c, ReaderOptions{Topic: "t", MaxWait: 5 * time.Second})
	held := make(chan struct{}, 100)
	k.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		held <- struct{}{}
		return nil, nil, false
	})
	for range 2 {
		ctx, cancel := context.WithCancel(within(t))
		errs := make(chan error)
		go func() {
			_, err := r.Poll(ctx)
			errs <- err
		}()
		if len(held) == 0 {
			// The first Poll makes the fetch; the second waits for the same one.
			held <- <-held
		}
		start := time.Now()
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Fatalf("err %v, want context.Canceled", err)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("returned %v after the context was done", d)
		}
	}
	// The fetch that outlived its Poll has what comes.
	if _, err := p.Append(within(t), "t", 0, values("a", 2)); err != nil {
		t.Fatal(err)
	}
	readN(t, r, 2)

	// Seek and Close are as prompt while a fetch is held.
	for _, end := range []func(){func() { r.SeekTo(2) }, func() { _ = r.Close() }} {
		ctx, cancel := context.WithCancel(within(t))
		cancel()
		r.start()
		start := time.Now()
		end()
		if d := time.Since(start); d > time.Second {
			t.Errorf("took %v", d)
		}
		_, _ = r.Poll(ctx)
	}
	if _, err := r.Poll(within(t)); !errors.Is(err, ErrClosed) {
		t.Fatalf("err %v, want ErrClosed", err)
	}
}

func TestReaderBeginsAtAnEnd(t *testing.T) {
	k := newCluster(t, 1, kfake.SeedTopics(1, "t"))
	c := dial(t, configOf(k))
	p := newProducer(t, c)
	if _, err := p.Append(within(t), "t", 0, values("a", 4)); err != nil {
		t.Fatal(err)
	}
	if err := k.DeleteRecords("t", 0, 2); err != nil {
		t.Fatal(err)
	}
	if got := readN(t, newReader(t, c, ReaderOptions{Topic: "t", Offset: OffsetOldest}), 2); got[0].Offset != 2 {
		t.Errorf("oldest is %d, want 2", got[0].Offset)
	}
	newest := newReader(t, c, ReaderOptions{Topic: "t", Offset: OffsetNewest})
	fetches := k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Observe: true, Count: -1})
	newest.start()
	if err := fetches.Wait(within(t), 1); err != nil {
		t.Fatal(err)
	}
	if newest.Next() != 4 {
		t.Errorf("newest is %d, want 4", newest.Next())
	}
	if _, err := p.Append(within(t), "t", 0, values("b", 1)); err != nil {
		t.Fatal(err)
	}
	if got := readN(t, newest, 1); got[0].Offset != 4 {
		t.Errorf("offset %d, want 4", got[0].Offset)
	}
}

func TestOffsetGone(t *testing.T) {
	k := newCluster(t, 1, kfake.SeedTopics(1, "t"))
	c := dial(t, configOf(k))
	p := newProducer(t, c)
	for i := range 10 {
		if _, err := p.Append(within(t), "t", 0, values(fmt.Sprint(i), 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.DeleteRecords("t", 0, 5); err != nil {
		t.Fatal(err)
	}
	for _, asked := range []int64{0, 4, 11, 1000} {
		r := newReader(t, c, ReaderOptions{Topic: "t", Offset: asked})
		for range 2 { // it stays so
			_, err := r.Poll(within(t))
			var gone *OffsetGoneError
			if !errors.As(err, &gone) || *gone != (OffsetGoneError{"t", 0, asked, 5, 10}) {
				t.Fatalf("asked %d: %v", asked, err)
			}
		}
		r.SeekTo(5)
		readN(t, r, 5)
	}
}

func TestOffsetGap(t *testing.T) {
	k := newCluster(t, 1)
	c := dial(t, configOf(k))
	if err := c.EnsureTopics(within(t), []TopicSpec{{Name: "t", Partitions: 1, Configs: map[string]string{
		"cleanup.policy": "compact", "segment.bytes": "200", "min.cleanable.dirty.ratio": "0",
	}}}); err != nil {
		t.Fatal(err)
	}
	p := newProducer(t, c)
	for i := range 12 {
		if _, err := p.Append(within(t), "t", 0, []Record{{Key: fmt.Appendf(nil, "%d", max(0, i-6)%3+min(i, 1)), Value: fmt.Appendf(nil, "%d", i)}}); err != nil {
			t.Fatal(err)
		}
	}
	k.Compact()
	r := newReader(t, c, ReaderOptions{Topic: "t"})
	var got []Record
	for r.Next() < 12 {
		rs, err := r.Poll(within(t))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, rs...)
	}
	if len(got) >= 12 || got[len(got)-1].Offset != 11 {
		t.Fatalf("%d records to offset %d: not compacted", len(got), got[len(got)-1].Offset)
	}
	dense := newReader(t, c, ReaderOptions{Topic: "t", Dense: true})
	var err error
	for err == nil {
		_, err = dense.Poll(within(t))
	}
	var gap *OffsetGapError
	if !errors.As(err, &gap) || gap.Next <= gap.Asked {
		t.Fatalf("err %v, want an OffsetGapError", err)
	}
}

// Leaders that move and connections that break must not show, in either mode.
func TestReaderUnderFaults(t *testing.T) {
	for _, prefetch := range []bool{false, true} {
		t.Run(fmt.Sprintf("prefetch=%t", prefetch), func(t *testing.T) {
			t.Parallel()
			const total = 300
			k := newCluster(t, 3, kfake.SeedTopics(1, "t"))
			w := &wire{chance: 60}
			cfg := configOf(k)
			cfg.Dial = w.dial
			var retries atomic.Int64
			cfg.OnRetry = func(string, error) { retries.Add(1) }
			faulty := dial(t, cfg)
			clean := dial(t, configOf(k))
			p := newProducer(t, clean)
			r := newReader(t, faulty, ReaderOptions{Topic: "t", Prefetch: prefetch, Dense: true, MaxBytes: 500})
			w.armed.Store(true)
			for _, e := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownTopicOrPartition, kerr.KafkaStorageError, kerr.UnknownServerError, kerr.OffsetNotAvailable} {
				k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: e})
			}
			go func() {
				for i := range total {
					if _, err := p.Append(context.Background(), "t", 0, values(fmt.Sprint(i), 1)); err != nil {
						t.Error(err)
						return
					}
					if i%40 == 0 {
						_ = k.MoveTopicPartition("t", 0, int32(i/40)%3)
					}
				}
			}()
			next := int64(0)
			for next < total {
				rs, err := r.Poll(within(t))
				if err != nil {
					t.Fatal(err)
				}
				for _, rec := range rs {
					if rec.Offset != next || string(rec.Value) != fmt.Sprintf("%d-0", next) {
						t.Fatalf("offset %d: %s, want offset %d", rec.Offset, rec.Value, next)
					}
					next++
				}
			}
			w.armed.Store(false)
			if retries.Load() < 5 {
				t.Errorf("%d retries, want those of five faults at least", retries.Load())
			}
		})
	}
}

// An answer that says the offset is out of range while it is not comes from a leader
// that does not know better: it is asked again, and nothing is skipped.
func TestOutOfRangeByMistake(t *testing.T) {
	k := newCluster(t, 1, kfake.SeedTopics(1, "t"))
	c := dial(t, configOf(k))
	if _, err := newProducer(t, c).Append(within(t), "t", 0, values("a", 3)); err != nil {
		t.Fatal(err)
	}
	k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange, Count: 2})
	readN(t, newReader(t, c, ReaderOptions{Topic: "t", Dense: true}), 3)
}
