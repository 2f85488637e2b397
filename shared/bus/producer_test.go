package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestAppendIsReadBack(t *testing.T) {
	k := newCluster(t, 1, kfake.SeedTopics(2, "t"))
	c := dial(t, configOf(k))
	p := newProducer(t, c)
	at := time.UnixMilli(1_700_000_000_123)
	in := []Record{
		{Key: []byte("k"), Value: []byte("v"), Headers: []Header{{"ce_id", []byte("1")}, {"mine", nil}, {"mine", []byte{}}}, Timestamp: at},
		{Key: nil, Value: nil, Timestamp: at.Add(time.Second)},
		{Key: []byte{}, Value: []byte{}, Timestamp: at.Add(-time.Hour)},
	}
	if base, err := p.Append(within(t), "t", 1, in); err != nil || base != 0 {
		t.Fatalf("base %d, err %v", base, err)
	}
	if base, err := p.Append(within(t), "t", 1, values("x", 2)); err != nil || base != 3 {
		t.Fatalf("base %d, err %v", base, err)
	}
	r := newReader(t, c, ReaderOptions{Topic: "t", Partition: 1, Dense: true})
	out := readN(t, r, 5)
	for i, want := range in {
		got := out[i]
		if got.Topic != "t" || got.Partition != 1 || got.Offset != int64(i) || !got.Timestamp.Equal(want.Timestamp) {
			t.Errorf("record %d: %+v", i, got)
		}
		if !bytes.Equal(got.Key, want.Key) || (got.Key == nil) != (want.Key == nil) || !bytes.Equal(got.Value, want.Value) || (got.Value == nil) != (want.Value == nil) {
			t.Errorf("record %d: key %v value %v, want %v %v", i, got.Key, got.Value, want.Key, want.Value)
		}
		if len(got.Headers) != len(want.Headers) {
			t.Errorf("record %d: headers %v, want %v", i, got.Headers, want.Headers)
		}
		for j := range want.Headers {
			if got.Headers[j].Key != want.Headers[j].Key || !bytes.Equal(got.Headers[j].Value, want.Headers[j].Value) || (got.Headers[j].Value == nil) != (want.Headers[j].Value == nil) {
				t.Errorf("record %d header %d: %v, want %v", i, j, got.Headers[j], want.Headers[j])
			}
		}
	}
	if r.Next() != 5 || r.HighWatermark() != 5 {
		t.Errorf("next %d, high watermark %d, want 5 5", r.Next(), r.HighWatermark())
	}
	if id := out[0].Header("ce_id"); id != "1" {
		t.Errorf("ce_id %q", id)
	}
	// In the middle of a batch.
	r.SeekTo(1)
	if got := readN(t, r, 4); got[0].Offset != 1 {
		t.Errorf("after seek: offset %d, want 1", got[0].Offset)
	}
}

func TestBatchBytesIsWhatIsSent(t *testing.T) {
	k := newCluster(t, 1)
	c := dial(t, configOf(k))
	if err := c.EnsureTopics(within(t), []TopicSpec{{Name: "t", Partitions: 1}}); err != nil {
		t.Fatal(err)
	}
	p := newProducer(t, c)
	var sent atomic.Int64
	k.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		sent.Store(int64(len(req.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records)))
		return nil, nil, false
	})
	at := time.UnixMilli(1_700_000_000_000)
	for _, n := range []int{1, 2, 64, 65, 300} {
		rs := make([]Record, n)
		for i := range rs {
			rs[i] = Record{Key: make([]byte, i%70), Value: make([]byte, i*37), Timestamp: at.Add(time.Duration(i*i) * time.Second), Headers: []Header{{strings.Repeat("h", i%65), make([]byte, i)}, {"nil", nil}}}
		}
		if _, err := p.Append(within(t), "t", 0, rs); err != nil {
			t.Fatal(err)
		}
		if got := int64(BatchBytes(rs)); got != sent.Load() {
			t.Errorf("%d records: BatchBytes %d, sent %d", n, got, sent.Load())
		}
	}
}

func TestAppendTooLarge(t *testing.T) {
	k := newCluster(t, 1)
	c := dial(t, configOf(k))
	if err := c.EnsureTopics(within(t), []TopicSpec{{Name: "t", Partitions: 1}}); err != nil {
		t.Fatal(err)
	}
	p := newProducer(t, c)
	fits := []Record{{Value: make([]byte, MaxBatchBytes-100)}}
	if _, err := p.Append(within(t), "t", 0, fits); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Append(within(t), "t", 0, []Record{{Value: make([]byte, MaxBatchBytes)}}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("err %v, want ErrTooLarge", err)
	}
	r := newReader(t, c, ReaderOptions{Topic: "t", MaxBytes: 1000}) // far smaller than the batch
	if got := readN(t, r, 1); len(got[0].Value) != MaxBatchBytes-100 {
		t.Fatalf("read %d bytes", len(got[0].Value))
	}
}

// Faults that a broker answers with; each must leave exactly one copy, at the offset returned.
func TestAppendThroughFaults(t *testing.T) {
	fault := func(e *kerr.Error, n int) kfake.Fault {
		return kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: e, Count: n}
	}
	for _, tc := range []struct {
		name   string
		faults []kfake.Fault
	}{
		{"not enough replicas", []kfake.Fault{fault(kerr.NotEnoughReplicas, 3)}},
		{"not leader", []kfake.Fault{fault(kerr.NotLeaderForPartition, 2)}},
		{"leader not available", []kfake.Fault{fault(kerr.LeaderNotAvailable, 2)}},
		{"unknown topic", []kfake.Fault{fault(kerr.UnknownTopicOrPartition, 2)}},
		{"timed out after the append", []kfake.Fault{fault(kerr.RequestTimedOut, 2)}},
		{"not enough replicas after the append", []kfake.Fault{fault(kerr.NotEnoughReplicasAfterAppend, 2)}},
		{"storage error", []kfake.Fault{fault(kerr.KafkaStorageError, 1)}},
		{"server error", []kfake.Fault{fault(kerr.UnknownServerError, 1)}},
		{"duplicate after the append", []kfake.Fault{fault(kerr.RequestTimedOut, 1), fault(kerr.DuplicateSequenceNumber, 1)}},
		{"out of order after the append", []kfake.Fault{fault(kerr.RequestTimedOut, 1), fault(kerr.OutOfOrderSequenceNumber, 1)}},
		{"fenced after the append", []kfake.Fault{fault(kerr.RequestTimedOut, 1), fault(kerr.ProducerFenced, 1)}},
		{"too large after the append", []kfake.Fault{fault(kerr.RequestTimedOut, 1), fault(kerr.MessageTooLarge, 1)}},
		{"out of order at first", []kfake.Fault{fault(kerr.OutOfOrderSequenceNumber, 1)}},
		{"unknown producer at first", []kfake.Fault{fault(kerr.UnknownProducerID, 1)}},
		{"old epoch at first", []kfake.Fault{fault(kerr.InvalidProducerEpoch, 1)}},
		{"no producer id at first", []kfake.Fault{{Keys: []kmsg.Key{kmsg.InitProducerID}, TopLevel: true, Err: kerr.CoordinatorLoadInProgress, Count: 2}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newCluster(t, 1, kfake.SeedTopics(1, "t"))
			c := dial(t, configOf(k))
			var want []string
			for _, warm := range []bool{false, true} { // the first call of a producer, and a later one
				p := newProducer(t, c)
				if warm {
					if _, err := p.Append(within(t), "t", 0, values("warm", 2)); err != nil {
						t.Fatal(err)
					}
					want = append(want, "warm-0", "warm-1")
				}
				h := k.Fault(tc.faults...)
				base, err := p.Append(within(t), "t", 0, values("a", 3))
				if err != nil {
					t.Fatal(err)
				}
				if int(base) != len(want) {
					t.Fatalf("base %d, want %d", base, len(want))
				}
				want = append(want, "a-0", "a-1", "a-2")
				faults := 0
				for _, f := range tc.faults {
					faults += f.Count
				}
				if tc.name != "no producer id at first" || !warm {
					if h.Hits() != faults {
						t.Fatalf("%d faults, want %d", h.Hits(), faults)
					}
				}
				h.Remove()
				if base, err = p.Append(within(t), "t", 0, values("b", 1)); err != nil || int(base) != len(want) {
					t.Fatalf("base %d, want %d; err %v", base, len(want), err)
				}
				want = append(want, "b-0")
			}
			wantLog(t, c, "t", 0, want...)
		})
	}
}

// Nothing was written, the broker then disowns the sequence: the log cannot prove that
// no copy is under way, so the outcome stays unknown, and the next call works.
func TestAppendUnsettled(t *testing.T) {
	k := newCluster(t, 1, kfake.SeedTopics(1, "t"))
	c := dial(t, configOf(k))
	p := newProducer(t, c)
	if _, err := p.Append(within(t), "t", 0, values("a", 2)); err != nil {
		t.Fatal(err)
	}
	k.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.OutOfOrderSequenceNumber})
		return nil, errors.New("close the connection without the append"), true
	})
	_, err := p.Append(within(t), "t", 0, values("lost", 2))
	if !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("err %v, want ErrOutcomeUnknown", err)
	}
	if base, err := p.Append(within(t), "t", 0, values("b", 1)); err != nil || base != 2 {
		t.Fatalf("base %d, err %v", base, err)
	}
	wantLog(t, c, "t", 0, "a-0", "a-1", "b-0")
}

func TestAppendGivesUp(t *testing.T) {
	k := newCluster(t, 1, kfake.SeedTopics(1, "t"))
	cfg := configOf(k)
	cfg.RetryFor = 100 * time.Millisecond
	c := dial(t, cfg)
	p := newProducer(t, c)
	if _, err := p.Append(within(t), "t", 0, values("a", 1)); err != nil {
		t.Fatal(err)
	}

	h := k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	_, err := p.Append(within(t), "t", 0, values("never", 1))
	if err == nil || errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("err %v, want one that is certain", err)
	}
	if !strings.Contains(err.Error(), "append to topic t partition 0") {
		t.Errorf("error does not say what was attempted: %v", err)
	}
	h.Remove()

	h = k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: -1})
	if _, err = p.Append(within(t), "t", 0, values("perhaps", 1)); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("err %v, want ErrOutcomeUnknown", err)
	}
	h.Remove()

	// It was written. The next call has another identity and its own place.
	if base, err := p.Append(within(t), "t", 0, values("b", 1)); err != nil || base != 2 {
		t.Fatalf("base %d, err %v", base, err)
	}
	wantLog(t, c, "t", 0, "a-0", "perhaps-0", "b-0")
}

func TestAppendHonoursContext(t *testing.T) {
	k := newCluster(t, 1, kfake.SeedTopics(2, "t"))
	c := dial(t, configOf(k))
	p := newProducer(t, c)
	if _, err := p.Append(within(t), "t", 0, values("a", 1)); err != nil {
		t.Fatal(err)
	}
	arrived := make(chan struct{})
	k.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(arrived)
		return nil, nil, true // never answered
	})
	ctx, cancel := context.WithCancel(within(t))
	errs := make(chan error, 2)
	go func() {
		_, err := p.Append(ctx, "t", 0, values("x", 1))
		errs <- err
	}()
	<-arrived
	// A second call for the partition waits for its turn, and gives up with its ctx too.
	go func() {
		_, err := p.Append(ctx, "t", 0, values("y", 1))
		errs <- err
	}()
	start := time.Now()
	cancel()
	unknown := 0
	for range 2 {
		err := <-errs
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("err %v, want context.Canceled", err)
		}
		if errors.Is(err, ErrOutcomeUnknown) {
			unknown++
		}
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("returned %v after the context was done", d)
	}
	if unknown != 1 {
		t.Errorf("%d calls of unknown outcome, want the one that was sent", unknown)
	}
}

func TestProducerClose(t *testing.T) {
	k := newCluster(t, 1, kfake.SeedTopics(1, "t"))
	p := newProducer(t, dial(t, configOf(k)))
	arrived := make(chan struct{})
	k.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(arrived)
		return nil, nil, true
	})
	errs := make(chan error)
	go func() {
		_, err := p.Append(within(t), "t", 0, values("x", 1))
		errs <- err
	}()
	<-arrived
	_ = p.Close()
	if err := <-errs; !errors.Is(err, ErrClosed) || !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("err %v, want ErrClosed and ErrOutcomeUnknown", err)
	}
	if _, err := p.Append(within(t), "t", 0, values("x", 1)); !errors.Is(err, ErrClosed) || errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("err %v, want ErrClosed only", err)
	}
}

// Many callers, connections that break before and after the append, leaders that
// move: each call's records once, contiguous at the offset it was told.
func TestAppendExactlyOnceUnderFaults(t *testing.T) {
	const partitions, writers, calls = 3, 12, 25
	k := newCluster(t, 3, kfake.SeedTopics(partitions, "t"))
	w := &wire{chance: 40}
	cfg := configOf(k)
	cfg.Dial = w.dial
	var retries atomic.Int64
	cfg.OnRetry = func(string, error) { retries.Add(1) }
	c := dial(t, cfg)
	p := newProducer(t, c)
	w.armed.Store(true)

	type told struct {
		partition int32
		base      int64
		records   []Record
	}
	var (
		mu   sync.Mutex
		all  []told
		wg   sync.WaitGroup
		done atomic.Int64
	)
	for id := range writers {
		wg.Go(func() {
			for i := range calls {
				rs := values(fmt.Sprintf("w%d-c%d", id, i), 1+(id+i)%7)
				part := int32((id + i) % partitions)
				base, err := p.Append(within(t), "t", part, rs)
				if err != nil {
					t.Errorf("writer %d call %d: %v", id, i, err)
					return
				}
				mu.Lock()
				all = append(all, told{part, base, rs})
				mu.Unlock()
				if n := done.Add(1); n%10 == 0 {
					if err := k.MoveTopicPartition("t", part, int32(n/10)%3); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	w.armed.Store(false)
	if t.Failed() {
		return
	}
	t.Logf("%d connections broken, %d retries", w.broken.Load(), retries.Load())
	if w.broken.Load() == 0 {
		t.Error("no connection was broken: the test shows nothing")
	}
	want := make([]map[int64]string, partitions)
	for i := range want {
		want[i] = map[int64]string{}
	}
	for _, c := range all {
		for i, r := range c.records {
			at := c.base + int64(i)
			if had, ok := want[c.partition][at]; ok {
				t.Fatalf("partition %d offset %d was given to %s and %s", c.partition, at, had, r.Value)
			}
			want[c.partition][at] = string(r.Value)
		}
	}
	for part := range int32(partitions) {
		_, next, err := c.Watermark(within(t), "t", part)
		if err != nil {
			t.Fatal(err)
		}
		if int(next) != len(want[part]) {
			t.Errorf("partition %d: %d records in the log, %d written", part, next, len(want[part]))
		}
		r := newReader(t, c, ReaderOptions{Topic: "t", Partition: part, Dense: true})
		for _, rec := range readN(t, r, int(next)) {
			if want[part][rec.Offset] != string(rec.Value) {
				t.Fatalf("partition %d offset %d: %s, want %s", part, rec.Offset, rec.Value, want[part][rec.Offset])
			}
		}
	}
}

func TestSend(t *testing.T) {
	k := newCluster(t, 2, kfake.SeedTopics(2, "a", "b"))
	c := dial(t, configOf(k))
	p := newProducer(t, c)
	var rs []Record
	for i := range 20 {
		rs = append(rs, Record{Topic: string("ab"[i%2]), Partition: int32(i / 2 % 2), Value: fmt.Appendf(nil, "%d", i)})
	}
	var requests atomic.Int64
	k.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		requests.Add(1)
		return nil, nil, false
	})
	if err := p.Send(within(t), rs); err != nil {
		t.Fatal(err)
	}
	if n := requests.Load(); n > 2 {
		t.Errorf("%d requests for two leaders", n)
	}
	for i, r := range rs {
		if r.Offset != int64(i/4) {
			t.Errorf("record %d has offset %d, want %d", i, r.Offset, i/4)
		}
	}
	wantLog(t, c, "b", 1, "3", "7", "11", "15", "19")

	// One partition fails: the error names it, the others are written.
	k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "a", Partitions: []int32{1}, Err: kerr.TopicAuthorizationFailed})
	err := p.Send(within(t), rs)
	var partial *PartialError
	if !errors.As(err, &partial) || len(partial.Failed) != 1 {
		t.Fatalf("err %v, want a PartialError of one partition", err)
	}
	if f := partial.Failed[0]; f.Topic != "a" || f.Partition != 1 || f.Written != 0 || errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("failed: %+v", f)
	}
	for i, r := range rs {
		if failed := r.Topic == "a" && r.Partition == 1; failed != (r.Offset == -1) {
			t.Errorf("record %d of %s/%d has offset %d", i, r.Topic, r.Partition, r.Offset)
		}
	}
}

func TestSendSplits(t *testing.T) {
	k := newCluster(t, 1)
	c := dial(t, configOf(k))
	if err := c.EnsureTopics(within(t), []TopicSpec{{Name: "t", Partitions: 1}}); err != nil {
		t.Fatal(err)
	}
	p := newProducer(t, c)
	rs := make([]Record, 5)
	for i := range rs {
		rs[i] = Record{Topic: "t", Value: make([]byte, 3<<20)}
	}
	if err := p.Send(within(t), rs); err != nil {
		t.Fatal(err)
	}
	for i := range rs {
		if rs[i].Offset != int64(i) {
			t.Errorf("record %d has offset %d", i, rs[i].Offset)
		}
	}
	// A record that is too large ends its partition there.
	rs[2].Value = make([]byte, MaxBatchBytes)
	err := p.Send(within(t), rs)
	var partial *PartialError
	if !errors.As(err, &partial) || !errors.Is(err, ErrTooLarge) || partial.Failed[0].Written != 2 {
		t.Fatalf("err %v, want ErrTooLarge after 2 records", err)
	}
	if rs[1].Offset != 6 || rs[2].Offset != -1 || rs[4].Offset != -1 {
		t.Fatalf("offsets %d %d %d", rs[1].Offset, rs[2].Offset, rs[4].Offset)
	}
	// A batch that fails in the middle is where it ends.
	rs[2].Value = rs[1].Value
	requests := map[kmsg.Request]bool{}
	k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, When: func(req kmsg.Request) bool {
		requests[req] = true
		return len(requests) == 2
	}})
	err = p.Send(within(t), rs)
	if !errors.As(err, &partial) || partial.Failed[0].Written != 2 || rs[4].Offset != -1 {
		t.Fatalf("err %v, offset of the last %d", err, rs[4].Offset)
	}
}
