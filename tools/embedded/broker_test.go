package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const topic = "t"

func start(t *testing.T, dir string) *Broker {
	t.Helper()
	b, err := StartBroker(BrokerOptions{Addr: "127.0.0.1:0", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func client(t *testing.T, b *Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Addr()), kgo.ProducerBatchMaxBytes(MaxMessageBytes),
		kgo.MaxProduceRequestsInflightPerBroker(1), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func create(t *testing.T, c *kgo.Client, configs map[string]string) {
	t.Helper()
	set := make(map[string]*string, len(configs))
	for k, v := range configs {
		set[k] = &v
	}
	if _, err := kadm.NewClient(c).CreateTopic(t.Context(), 1, 1, set, topic); err != nil {
		t.Fatal(err)
	}
}

// produce sends each value as a batch of its own and returns the last one's offset.
func produce(t *testing.T, c *kgo.Client, key string, values ...string) int64 {
	t.Helper()
	var last int64
	for _, v := range values {
		r, err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(v)}).First()
		if err != nil {
			t.Fatal(err)
		}
		last = r.Offset
	}
	return last
}

// consume reads what a new reader finds from the log's start to its end.
func consume(t *testing.T, b *Broker) []string {
	t.Helper()
	c := client(t, b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	first, end := offsets(t, c)
	var values []string
	for next := first; next < end; {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		fetches := c.PollFetches(ctx)
		cancel()
		if err := fetches.Err(); err != nil {
			t.Fatalf("read from %d of [%d, %d): %v", next, first, end, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			values = append(values, string(r.Value))
			next = r.Offset + 1
		})
	}
	return values
}

func offsets(t *testing.T, c *kgo.Client) (first, end int64) {
	t.Helper()
	admin := kadm.NewClient(c)
	starts, err := admin.ListStartOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	ends, err := admin.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := starts.Lookup(topic, 0)
	e, _ := ends.Lookup(topic, 0)
	return s.Offset, e.Offset
}

// killed is the directory as a kill -9 at this moment would leave it.
func killed(t *testing.T, dir string) string {
	t.Helper()
	left := filepath.Join(t.TempDir(), "left")
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return left
}

func TestRecordsSurviveAKill(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	c := client(t, b)
	create(t, c, nil)
	var want []string
	for i := range 500 {
		want = append(want, fmt.Sprintf("value %d", i))
	}
	produce(t, c, "k", want...)

	again := start(t, killed(t, dir))
	if got := consume(t, again); strings.Join(got, ",") != strings.Join(want, ",") {
		t.Fatalf("got %d records after the kill, want %d", len(got), len(want))
	}
	if next := produce(t, client(t, again), "k", "after"); next != int64(len(want)) {
		t.Fatalf("the next record got offset %d, want %d", next, len(want))
	}
}

func TestATornLastBatchIsCutOff(t *testing.T) {
	dir := t.TempDir()
	c := client(t, start(t, dir))
	create(t, c, nil)
	produce(t, c, "k", "whole")
	left := killed(t, dir)
	segment, err := os.OpenFile(segmentPath(partitionDir(left, topic, 0), 0), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	torn := emptyBatch(1, time.Now())
	if _, err := segment.Write(torn[:len(torn)-5]); err != nil {
		t.Fatal(err)
	}
	if err := segment.Close(); err != nil {
		t.Fatal(err)
	}

	again := start(t, left)
	if next := produce(t, client(t, again), "k", "next"); next != 1 {
		t.Fatalf("the next record got offset %d, want 1", next)
	}
	if got := consume(t, again); strings.Join(got, ",") != "whole,next" {
		t.Fatalf("got %q", got)
	}
}

// kfake alone would start such a partition at 0 again, and everything that counts in offsets would take new
// records for old ones.
func TestAnEmptiedPartitionGoesOnAtItsOffset(t *testing.T) {
	for name, reopen := range map[string]func(*testing.T, *Broker, string) *Broker{
		"after Close": func(t *testing.T, b *Broker, dir string) *Broker {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			return start(t, dir)
		},
		"after a kill": func(t *testing.T, _ *Broker, dir string) *Broker { return start(t, killed(t, dir)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := start(t, dir)
			c := client(t, b)
			create(t, c, map[string]string{"retention.bytes": "0"})
			produce(t, c, "k", "a", "b", "c")
			if err := b.sweep(compactFrom); err != nil {
				t.Fatal(err)
			}
			if first, end := offsets(t, c); first != 3 || end != 3 {
				t.Fatalf("log is [%d, %d), want it emptied at 3", first, end)
			}

			for range 2 { // twice: what the first restart left must be enough for the second
				b = reopen(t, b, dir)
				dir = b.dir
				if first, end := offsets(t, client(t, b)); first != 3 || end != 3 {
					t.Fatalf("log is [%d, %d) after the restart, want it empty at 3: a reader would wait for the record at %d", first, end, first)
				}
			}
			if next := produce(t, client(t, b), "k", "d"); next != 3 {
				t.Fatalf("the next record got offset %d, want 3", next)
			}
			if got := consume(t, b); strings.Join(got, ",") != "d" {
				t.Fatalf("got %q, want the new record alone", got)
			}
		})
	}
}

func TestATopicMadeAnewStartsAtZero(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	c := client(t, b)
	create(t, c, nil)
	produce(t, c, "k", "a")
	if err := b.sweep(compactFrom); err != nil {
		t.Fatal(err)
	}
	if _, err := kadm.NewClient(c).DeleteTopics(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	create(t, c, nil)
	if _, end := offsets(t, client(t, start(t, killed(t, dir)))); end != 0 {
		t.Fatalf("the new topic ends at %d, want 0", end)
	}
}

func TestRetentionBytesBoundsWhatIsLoaded(t *testing.T) {
	const retained, segment, record = 256 << 10, 64 << 10, 16 << 10
	dir := t.TempDir()
	b := start(t, dir)
	c := client(t, b)
	create(t, c, map[string]string{"retention.bytes": fmt.Sprint(retained), "segment.bytes": fmt.Sprint(segment)})
	for range 2 << 20 / record {
		produce(t, c, "k", strings.Repeat("x", record))
	}
	if err := b.sweep(compactFrom); err != nil {
		t.Fatal(err)
	}

	left := killed(t, dir)
	bases, err := segmentBases(partitionDir(left, topic, 0))
	if err != nil {
		t.Fatal(err)
	}
	var onDisk int64
	for _, base := range bases {
		info, err := os.Stat(segmentPath(partitionDir(left, topic, 0), base))
		if err != nil {
			t.Fatal(err)
		}
		onDisk += info.Size()
	}
	if limit := int64(retained + segment + 2*record); onDisk > limit || onDisk < retained/2 {
		t.Fatalf("%d bytes are left for the next start to load, want about %d and at most %d", onDisk, retained, limit)
	}
}

func TestMaxMessageBytes(t *testing.T) {
	b := start(t, "")
	c := client(t, b)
	create(t, c, map[string]string{"max.message.bytes": "1000"})
	err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: make([]byte, 2000)}).FirstErr()
	if !errors.Is(err, kerr.MessageTooLarge) {
		t.Fatalf("got %v, want the topic's bound to refuse the record", err)
	}
	if _, err := kadm.NewClient(c).CreateTopic(t.Context(), 1, 1, nil, "unbounded"); err != nil {
		t.Fatal(err)
	}
	if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "unbounded", Value: make([]byte, 8<<20)}).FirstErr(); err != nil {
		t.Fatalf("8 MiB: %v", err)
	}
}

func TestNoTopicIsMadeByAsking(t *testing.T) {
	c := client(t, start(t, ""), kgo.AllowAutoTopicCreation())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := c.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr()
	if !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Fatalf("got %v", err)
	}
}

func TestCompactionKeepsTheNewestOfEachKey(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	c := client(t, b)
	create(t, c, map[string]string{"cleanup.policy": "compact"})
	produce(t, c, "x", "x1", "x2")
	produce(t, c, "y", "y1")
	produce(t, c, "x", "x3")
	produce(t, c, "z", "z1") // the last batch is not looked at: a key in it may be found twice
	if err := b.sweep(0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, linksDir)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the links are still there: %v", err)
	}
	if got := consume(t, b); strings.Join(got, ",") != "y1,x3,z1" {
		t.Fatalf("got %q", got)
	}
	if got := consume(t, start(t, killed(t, dir))); strings.Join(got, ",") != "y1,x3,z1" {
		t.Fatalf("after a kill: got %q", got)
	}
}

// The steps of kfake's rewriting at which a kill may come, each made by hand on the directory that it would leave.
func TestAKillDuringCompactionLosesNoKey(t *testing.T) {
	const all, newest = "x1,y1,x2,z1", "y1,x2,z1"
	rewritten := func(t *testing.T, dir string) { // by a broker of its own, without the guard
		b := start(t, dir)
		b.cluster.Compact()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		name string
		do   func(t *testing.T, dir, partition string, bases []int64)
		want string
	}{
		{"nothing removed yet", func(*testing.T, string, string, []int64) {}, all},
		{"first segment removed", func(t *testing.T, _, partition string, bases []int64) {
			if err := os.Remove(segmentPath(partition, bases[0])); err != nil {
				t.Fatal(err)
			}
		}, all},
		{"all segments removed", func(t *testing.T, _, partition string, _ []int64) {
			if err := removeSegments(partition); err != nil {
				t.Fatal(err)
			}
		}, all},
		{"new segment half written", func(t *testing.T, dir, partition string, _ []int64) {
			rewritten(t, dir)
			bases, err := segmentBases(partition)
			if err != nil {
				t.Fatal(err)
			}
			last := segmentPath(partition, bases[len(bases)-1])
			info, err := os.Stat(last)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(last, info.Size()-1); err != nil {
				t.Fatal(err)
			}
		}, all},
		{"all written", func(t *testing.T, dir, _ string, _ []int64) { rewritten(t, dir) }, newest},
	} {
		t.Run(step.name, func(t *testing.T) {
			dir := t.TempDir()
			b := start(t, dir)
			c := client(t, b)
			create(t, c, map[string]string{"cleanup.policy": "compact", "segment.bytes": "1"})
			produce(t, c, "x", "x1")
			produce(t, c, "y", "y1")
			produce(t, c, "x", "x2")
			produce(t, c, "z", "z1")
			topics, err := readTopics(dir)
			if err != nil {
				t.Fatal(err)
			}
			left := killed(t, dir)
			if err := linkCompacted(left, topics); err != nil {
				t.Fatal(err)
			}
			partition := partitionDir(left, topic, 0)
			bases, err := segmentBases(partition)
			if err != nil || len(bases) < 2 {
				t.Fatalf("segments %v, want several (%v)", bases, err)
			}
			// The step's own broker must find no links to act on.
			aside := filepath.Join(t.TempDir(), linksDir)
			move(t, filepath.Join(left, linksDir), aside)
			step.do(t, left, partition, bases)
			move(t, aside, filepath.Join(left, linksDir))

			if got := strings.Join(consume(t, start(t, left)), ","); got != step.want {
				t.Fatalf("got %q, want %q", got, step.want)
			}
		})
	}
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestAPortInUseNamesTheFlag(t *testing.T) {
	b := start(t, "")
	_, err := StartBroker(BrokerOptions{Addr: b.Addr(), AddrFlag: "--some-flag"})
	if err == nil || !strings.Contains(err.Error(), "--some-flag") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("got %v, want one line that names the flag", err)
	}
	if _, err := StartRedis(b.Addr()); err == nil || !strings.Contains(err.Error(), "--redis-bind") {
		t.Fatalf("got %v, want one line that names the flag", err)
	}
}

func TestAnAddressThatClientsCannotDialIsRefused(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:9092", ":9092", "[::]:9092", "127.0.0.1", "127.0.0.1:x"} {
		if _, err := StartBroker(BrokerOptions{Addr: addr}); err == nil || !strings.Contains(err.Error(), "--kafka-addr") {
			t.Errorf("%s: got %v", addr, err)
		}
	}
}

func TestADirectoryIsUsedOnce(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	_, err := StartBroker(BrokerOptions{Addr: "127.0.0.1:0", Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Fatalf("got %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
}

func TestAnEmptyBatchIsWhatKafkaCallsOne(t *testing.T) {
	at := time.UnixMilli(7)
	if got := emptyBatch(41, at); len(got) != batchHeader {
		t.Fatalf("%d bytes, want %d", len(got), batchHeader)
	}
	path := filepath.Join(t.TempDir(), "41.dat")
	if err := os.WriteFile(path, emptyBatch(41, at), 0o644); err != nil {
		t.Fatal(err)
	}
	if end, err := segmentEnd(path); err != nil || end != 42 {
		t.Fatalf("ends at %d (%v), want 42", end, err)
	}
}
