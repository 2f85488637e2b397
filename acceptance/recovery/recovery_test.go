// Package recovery damages the files of a stopped `exesdb up` as a power cut does, and
// shows that the next start repairs them.
package recovery

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/acceptance/history"
	"github.com/exesdb/exesdb/acceptance/load"
	"github.com/exesdb/exesdb/contracts/registry"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestBrokerLosesItsUnsyncedTail: the fsynced store keeps what the broker's log lost: the log, the
// requests, or any topics of the path. Every acknowledged event is there after the next start, and new writes go on.
func TestBrokerLosesItsUnsyncedTail(t *testing.T) {
	t.Parallel()
	harness.EmbeddedOnly(t)
	for name, topics := range map[string][]string{
		"log":          {registry.WriteCommandValidated},
		"requests":     {registry.StreamWriteRequested},
		"log-requests": {registry.WriteCommandValidated, registry.StreamWriteRequested},
		"outcomes":     {registry.EventsPersisted, registry.WriteAcknowledged, registry.WriteRejected},
		"places":       {registry.ShardAcknowledged, registry.NotificationTriggered},
		"all":          all(),
	} {
		t.Run(name, func(t *testing.T) {
			for _, shards := range []int32{1, 4} {
				t.Run(fmt.Sprintf("%d-shards", shards), func(t *testing.T) { lose(t, shards, topics) })
			}
		})
	}
}

func all() []string {
	var names []string
	for _, e := range registry.Events() {
		names = append(names, e.Name)
	}
	return names
}

func lose(t *testing.T, shards int32, topics []string) {
	seed := harness.Seed(t)
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's choices
	s := harness.Up(t, harness.Options{Shards: shards})
	var ops []history.Op
	prefixes := []string{}
	for round := range 2 {
		prefix := fmt.Sprintf("r%d-", round)
		prefixes = append(prefixes, prefix)
		l := load.Start(t, s, load.Options{Seed: seed + uint64(round), MostOps: 400, Prefix: prefix}) //nolint:gosec // small
		l.AwaitFull(30 * time.Second)
		ops = append(ops, l.Finish(20*time.Second)...)
		s.All.Kill9()
		for _, topic := range topics {
			for p := range registry.Must(topic).Partitions(shards) {
				cut(t, s, topic, p, random)
			}
		}
		s.All.Start()
		s.AwaitReady(30 * time.Second)
		check(t, s, ops, prefixes)
		load.CheckFeed(t, s, ops)
		if t.Failed() {
			return
		}
	}
	s.StillUp()
}

// cut takes some bytes from the end of a partition's newest segment: part of a batch, some batches, or nearly all.
func cut(t *testing.T, s *harness.Running, event string, partition int32, random *rand.Rand) {
	t.Helper()
	dir := filepath.Join(s.DataDir, "broker", "partitions", fmt.Sprintf("%s-%d", registry.Topic(s.StoreID, event), partition))
	segments, err := filepath.Glob(filepath.Join(dir, "*.dat"))
	if err != nil {
		t.Fatal(err)
	}
	if len(segments) == 0 {
		return // nothing was written there
	}
	newest := slices.MaxFunc(segments, func(a, b string) int { return base(t, a) - base(t, b) })
	info, err := os.Stat(newest)
	if err != nil {
		t.Fatal(err)
	}
	var gone int64
	switch random.IntN(3) {
	case 0:
		gone = 1 + random.Int64N(100)
	case 1:
		gone = info.Size() / 10
	default:
		gone = info.Size() / 2
	}
	if err := os.Truncate(newest, max(0, info.Size()-gone)); err != nil {
		t.Fatal(err)
	}
}

func base(t *testing.T, segment string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(segment), ".dat"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func check(t *testing.T, s *harness.Running, ops []history.Op, prefixes []string) {
	t.Helper()
	merged := history.Log{Streams: map[string][]history.Recorded{}}
	for _, prefix := range prefixes {
		log := load.Read(t, s, prefix)
		for stream, events := range log.Streams {
			merged.Streams[stream] = events
		}
	}
	merged.All = load.Read(t, s, "r").All
	if err := history.CheckFinal(ops, merged); err != nil {
		t.Errorf("after the cut: %v", err)
	}
	if err := history.CheckLinearizable(ops, 30*time.Second); err != nil {
		t.Error(err)
	}
}

// TestRestarts: clean stops and kills in turn, many times; everything is there each time, and each start is quick.
func TestRestarts(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, harness.Options{})
	seed := harness.Seed(t)
	var ops []history.Op
	var prefixes []string
	for round := range 8 {
		prefix := fmt.Sprintf("r%d-", round)
		prefixes = append(prefixes, prefix)
		l := load.Start(t, s, load.Options{Seed: seed + uint64(round), MostOps: 150, Prefix: prefix}) //nolint:gosec // small
		l.AwaitFull(30 * time.Second)
		ops = append(ops, l.Finish(20*time.Second)...)
		if round%2 == 0 {
			if code := s.All.Stop(); code != 0 {
				t.Errorf("exit code %d after SIGTERM", code)
			}
		} else {
			s.All.Kill9()
		}
		began := time.Now()
		s.All.Start()
		s.AwaitReady(30 * time.Second)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("round %d: ready after %v, want less than 3s", round, took)
		}
		check(t, s, ops, prefixes)
	}
	load.CheckFeed(t, s, ops)
}
