package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Against Apache Kafka: deployments/real/run [--brokers 3] -- go test ./bus -run Real
func realConfig(t *testing.T) Config {
	brokers := os.Getenv("KAFKA_BROKERS")
	if brokers == "" {
		t.Skip("KAFKA_BROKERS is not set")
	}
	return Config{Brokers: strings.FieldsFunc(brokers, func(r rune) bool { return r == ',' || r == ' ' }), ClientID: "bus-test"}
}

func realTopic(t *testing.T, c *Client, partitions int32) string {
	t.Helper()
	topic := fmt.Sprintf("bus-test-%d", time.Now().UnixNano())
	if err := c.EnsureTopics(within(t), []TopicSpec{{Name: topic, Partitions: partitions}}); err != nil {
		t.Fatal(err)
	}
	return topic
}

func TestRealRoundTrip(t *testing.T) {
	c := dial(t, realConfig(t))
	topic := realTopic(t, c, 2)
	if err := c.Healthy(within(t)); err != nil {
		t.Fatal(err)
	}
	p := newProducer(t, c)
	start := time.Now()
	for i := range 50 {
		if base, err := p.Append(within(t), topic, 0, values("a", 2)); err != nil || base != int64(2*i) {
			t.Fatalf("base %d, err %v", base, err)
		}
	}
	t.Logf("one append took %v", time.Since(start)/50)
	got := readN(t, newReader(t, c, ReaderOptions{Topic: topic, Dense: true}), 100)
	if d := time.Since(got[0].Timestamp); d < 0 || d > time.Minute {
		t.Errorf("append time %v", got[0].Timestamp)
	}
	if _, err := p.Append(within(t), topic, 0, []Record{{Value: make([]byte, MaxBatchBytes-100)}}); err != nil {
		t.Fatal(err)
	}
	r := newReader(t, c, ReaderOptions{Topic: topic, Offset: 100, MaxBytes: 1000, Dense: true})
	readN(t, r, 1)
	for _, asked := range []int64{102, 1000} {
		r.SeekTo(asked)
		_, err := r.Poll(within(t))
		var gone *OffsetGoneError
		if !errors.As(err, &gone) || gone.Next != 101 {
			t.Errorf("asked %d: %v", asked, err)
		}
	}
	err := c.EnsureTopics(within(t), []TopicSpec{{Name: topic, Partitions: 1}})
	var mismatch *PartitionCountError
	if !errors.As(err, &mismatch) {
		t.Errorf("err %v, want a PartitionCountError", err)
	}
}

// Connections that break, and one broker of three that is killed if the runner gives
// its process id: every record once, at the offset that its call returned.
func TestRealExactlyOnce(t *testing.T) {
	const partitions, writers, calls = 3, 12, 60
	w := &wire{chance: 30}
	cfg := realConfig(t)
	cfg.Dial = w.dial
	cfg.RetryFor = time.Minute
	var retries atomic.Int64
	cfg.OnRetry = func(string, error) { retries.Add(1) }
	c := dial(t, cfg)
	topic := realTopic(t, c, partitions)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	p := newProducer(t, c)
	w.armed.Store(true)

	victim := 0
	if pids := strings.Fields(strings.ReplaceAll(cmp.Or(os.Getenv("EXESDB_REAL_BROKER_PIDS"), " "), ",", " ")); len(pids) >= 3 {
		victim, _ = strconv.Atoi(pids[len(pids)-1])
	}
	var (
		mu   sync.Mutex
		want [partitions]map[int64]string
		wg   sync.WaitGroup
		done atomic.Int64
	)
	for i := range want {
		want[i] = map[int64]string{}
	}
	for id := range writers {
		wg.Go(func() {
			for i := range calls {
				rs := values(fmt.Sprintf("w%d-c%d", id, i), 1+(id+i)%7)
				part := int32((id + i) % partitions)
				base, err := p.Append(ctx, topic, part, rs)
				if err != nil {
					t.Errorf("writer %d call %d: %v", id, i, err)
					return
				}
				mu.Lock()
				for j, r := range rs {
					if had, ok := want[part][base+int64(j)]; ok {
						t.Errorf("partition %d offset %d was given to %s and %s", part, base+int64(j), had, r.Value)
					}
					want[part][base+int64(j)] = string(r.Value)
				}
				mu.Unlock()
				if done.Add(1) == writers*calls/3 && victim > 0 {
					t.Logf("killing broker process %d", victim)
					if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	w.armed.Store(false)
	t.Logf("%d connections broken, %d retries", w.broken.Load(), retries.Load())
	for part := range int32(partitions) {
		r := newReader(t, c, ReaderOptions{Topic: topic, Partition: part, Dense: true})
		for read := 0; read < len(want[part]); {
			rs, err := r.Poll(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range rs {
				if want[part][rec.Offset] != string(rec.Value) {
					t.Fatalf("partition %d offset %d: %s, want %s", part, rec.Offset, rec.Value, want[part][rec.Offset])
				}
			}
			read += len(rs)
		}
		if _, next, err := c.Watermark(ctx, topic, part); err != nil || int(next) != len(want[part]) {
			t.Errorf("partition %d ends at %d, want %d; err %v", part, next, len(want[part]), err)
		}
	}
}

func TestRealControlLane(t *testing.T) {
	cfg := realConfig(t)
	c := dial(t, cfg)
	topic := realTopic(t, c, 1)
	pub, err := NewControlPublisher(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	for i := range 5 {
		if err := pub.Publish(topic, message.NewMessage(fmt.Sprint(i), []byte("x"))); err != nil {
			t.Fatal(err)
		}
	}
	for _, group := range []string{"", topic} {
		sub, err := NewControlSubscriber(cfg, group, nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ch, err := sub.Subscribe(within(t), topic)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			msg, ok := <-ch
			if !ok || msg.UUID != fmt.Sprint(i) {
				t.Fatalf("group %q: message %v, want %d", group, msg, i)
			}
			msg.Ack()
		}
		t.Logf("group %q: read after %v", group, time.Since(start))
		if err := sub.Close(); err != nil {
			t.Error(err)
		}
	}
}
