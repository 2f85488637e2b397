package recovery

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
)

const (
	millionEvents = 1_000_000
	batchEvents   = 500
	readyWithin   = 3 * time.Second
	mostResident  = 600 << 20
)

// TestReadyInThreeSecondsWithAMillionEvents: how long a start takes, and how much memory the process has, does not
// grow with what the store holds. After a kill, and after a clean stop.
func TestReadyInThreeSecondsWithAMillionEvents(t *testing.T) {
	harness.EmbeddedOnly(t)
	if os.Getenv("EXESDB_TEST_MILLION") != "1" {
		t.Skip("takes over a minute: EXESDB_TEST_MILLION=1 runs it")
	}
	s := harness.Up(t, harness.Options{})
	began := time.Now()
	last := writeMillion(t, s)
	t.Logf("%d events written in %v; resident %d MiB", millionEvents, time.Since(began).Round(time.Second), residentBytes(t, s)>>20)

	for _, how := range []string{"kill -9", "clean stop"} {
		if how == "kill -9" {
			s.All.Kill9()
		} else if code := s.All.Stop(); code != 0 {
			t.Errorf("exit code %d after SIGTERM", code)
		}
		began := time.Now()
		s.All.Start()
		harness.Eventually(t, time.Minute, "/readyz answers 200 after a "+how, func() error {
			if err := s.All.Ended(); err != nil {
				t.Fatal(err)
			}
			status, text, err := s.Readyz("gateway-0")
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("status %d: %s", status, text)
			}
			return err
		})
		took, resident := time.Since(began), residentBytes(t, s)
		t.Logf("after a %s: ready in %v, resident %d MiB", how, took.Round(time.Millisecond), resident>>20)
		if took > readyWithin {
			t.Errorf("ready %v after a %s, want less than %v", took, how, readyWithin)
		}
		there(t, s, last)
		if resident = max(resident, residentBytes(t, s)); resident > mostResident {
			t.Errorf("%d MiB resident after a %s, want less than %d", resident>>20, how, mostResident>>20)
		}
	}
	s.StillUp()
}

// writeMillion fills many streams over gRPC and returns what was acknowledged last of each.
func writeMillion(t *testing.T, s *harness.Running) map[string]harness.Appended {
	t.Helper()
	const writers, streams = 8, 100
	data := []byte(`{"order":"1234567890","item":"a small event of some hundred bytes, as most events are","price":1995}`)
	answers := make([]harness.Appended, millionEvents/batchEvents)
	var next atomic.Int64
	var done sync.WaitGroup
	for range writers {
		done.Go(func() {
			for !t.Failed() {
				n := int(next.Add(1)) - 1
				if n >= len(answers) {
					return
				}
				a := harness.Append{Stream: fmt.Sprintf("million-%02d", n%streams), Key: fmt.Sprintf("million-%d", n), Events: make([]harness.Event, batchEvents)}
				for i := range a.Events {
					a.Events[i] = harness.Event{EventType: "Ordered", Data: data}
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				appended, _, err := harness.AppendUntilKnown(ctx, s.GRPC, a)
				cancel()
				if err != nil {
					t.Errorf("append batch %d: %v", n, err)
				}
				answers[n] = appended
			}
		})
	}
	done.Wait()
	if t.Failed() {
		t.FailNow()
	}
	last := map[string]harness.Appended{}
	for _, a := range answers {
		if a.NewVersion >= last[a.StreamID].NewVersion {
			last[a.StreamID] = a
		}
	}
	return last
}

// there checks the end of each stream: its version, and that the last acknowledged event is it.
func there(t *testing.T, s *harness.Running, last map[string]harness.Appended) {
	t.Helper()
	var events int64
	for stream, want := range last {
		page, err := s.REST.ReadPage(t.Context(), stream, fmt.Sprintf("limit=1&from_version=%d", want.NewVersion))
		if err != nil || len(page.Events) != 1 || page.StreamVersion != want.NewVersion || page.Events[0].EventID != want.EventIDs[len(want.EventIDs)-1] {
			t.Errorf("the end of %s is %+v %v, want version %d, event %s", stream, page, err, want.NewVersion, want.EventIDs[len(want.EventIDs)-1])
		}
		events += page.StreamVersion + 1
	}
	if events != millionEvents {
		t.Errorf("the streams have %d events, want %d", events, millionEvents)
	}
}

// residentBytes is VmRSS of the process that was started with this system's data directory.
func residentBytes(t *testing.T, s *harness.Running) int64 {
	t.Helper()
	status := processStatus(t, s.DataDir)
	for line := range bytes.Lines(status) {
		if size, found := bytes.CutPrefix(line, []byte("VmRSS:")); found {
			kib, err := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(size), []byte("kB")))), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no VmRSS in %q", status)
	return 0
}

// processStatus finds the process in /proc by its arguments.
func processStatus(t *testing.T, argument string) []byte {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		args, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(args, append([]byte(argument), 0)) {
			continue // it has ended, or is another
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(f), "status"))
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	t.Skipf("no process with argument %s in /proc: its memory cannot be read here", argument)
	return nil
}
