// Package cli shows the commands of exesdb as a user runs them.
package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/contracts/registry"
)

func TestMain(m *testing.M) { harness.Main(m) }

// run runs a command and returns its standard output; the test fails with its standard error.
func run(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, err := try(t, args...)
	if err != nil {
		t.Fatalf("exesdb %s: %v: %s", strings.Join(args, " "), err, errs)
	}
	return out
}

func try(t *testing.T, args ...string) (out, errs string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t, "exesdb"), args...) //nolint:gosec // our own binary
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.String(), e.String(), err
}

// TestAppendReadStreams: what the first minutes with the command look like.
func TestAppendReadStreams(t *testing.T) {
	s := harness.Up(t, harness.Options{})
	addr := "--addr=" + s.GRPCAddr
	out := run(t, "append", addr, "order-1", "OrderPlaced", `{"total":42,"a":9007199254740993}`, "--expected-version=-1", "--tag=eu")
	if !strings.Contains(out, `"new_version":0`) {
		t.Errorf("append: %s", out)
	}
	_, errs, err := try(t, "append", addr, "order-1", "OrderPlaced", `{}`, "--expected-version=-1")
	if err == nil || !strings.Contains(errs, "actual version 0") {
		t.Errorf("a conflict does not say the actual version: %v %s", err, errs)
	}
	_, errs, err = try(t, "append", addr, "order-1", "OrderPlaced", `{not json`)
	if err == nil || !strings.Contains(errs, "JSON") {
		t.Errorf("bad JSON: %v %s", err, errs)
	}
	run(t, "append", addr, "order-2", "OrderPlaced", `{"total":1}`)
	out = run(t, "read", addr, "order-1")
	if !strings.Contains(out, `"data":{"total":42,"a":9007199254740993}`) || strings.Count(out, "\n") != 1 {
		t.Errorf("read: %s", out)
	}
	if out = run(t, "read", addr); strings.Count(out, "\n") != 2 {
		t.Errorf("read of all streams: %s", out)
	}
	if out = run(t, "read", addr, "--tag=eu"); strings.Count(out, "\n") != 1 {
		t.Errorf("read by tag: %s", out)
	}
	if out = run(t, "streams", addr, "order-"); out != "order-1\t0\norder-2\t0\n" {
		t.Errorf("streams: %q", out)
	}
	if _, errs, err = try(t, "read", "--addr=127.0.0.1:1", "order-1"); err == nil || !strings.Contains(errs, "--addr") {
		t.Errorf("nobody there: %v %s", err, errs)
	}
	if out = run(t, "version"); !strings.HasPrefix(out, "exesdb ") {
		t.Errorf("version: %q", out)
	}
}

// commits writes an NDJSON of n commits as those of a git repository: a stream per author.
func commits(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	for i := range n {
		author := fmt.Sprintf("author-%d", i*i%17)
		fmt.Fprintf(&b, `{"event_id":"%040x","event_type":"Committed","stream_id":"%s","data":{"message":"Fix <the> %d & \"that\" é\n","parents":["%040x"],"n":%d.0},"metadata":{"branch":"main"},"tags":["%s"]}`+"\n",
			i, author, i, i-1, i, author)
	}
	return b.Bytes()
}

// TestImportExport: what was imported comes out byte for byte, also when it is imported twice; a copy of the export makes the same store.
func TestImportExport(t *testing.T) {
	s := harness.Up(t, harness.Options{})
	addr := "--addr=" + s.GRPCAddr
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.ndjson"), filepath.Join(dir, "out.ndjson")
	want := commits(t, 5000)
	if err := os.WriteFile(in, want, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "import", addr, in)
	run(t, "import", addr, in) // nothing changes
	run(t, "export", addr, out)
	have, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		h, w := bytes.Split(have, []byte("\n")), bytes.Split(want, []byte("\n"))
		for i := range min(len(h), len(w)) {
			if !bytes.Equal(h[i], w[i]) {
				t.Fatalf("line %d is %s, want %s", i+1, h[i], w[i])
			}
		}
		t.Fatalf("%d lines, want %d", len(h), len(w))
	}
	if code := s.All.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, _, given := harness.Real(); !given {
		t.Logf("verify: %s", run(t, "verify", "--data-dir", s.DataDir))
	}
}

// TestTail: events of the catalogue as JSON lines.
func TestTail(t *testing.T) {
	s := harness.Up(t, harness.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t, "exesdb"), "tail", "--kafka-brokers", s.Kafka, "--store-id", s.StoreID, "--oldest", registry.WriteAcknowledged, registry.SystemReady) //nolint:gosec // our own binary
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	run(t, "append", "--addr="+s.GRPCAddr, "tailed", "T", "1")
	seen := map[string]bool{}
	lines := bufio.NewScanner(stdout)
	for len(seen) < 2 && lines.Scan() {
		var line struct {
			Event string          `json:"event"`
			Value json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || len(line.Value) == 0 {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		if line.Event == registry.SystemReady || strings.Contains(string(line.Value), "tailed") {
			seen[line.Event] = true
		}
	}
	if !seen[registry.SystemReady] || !seen[registry.WriteAcknowledged] {
		t.Errorf("seen %v", seen)
	}
	cancel()
	_ = cmd.Wait() // it was told to end
	if _, errs, err := try(t, "tail", "no_such_event"); err == nil || !strings.Contains(errs, "system_ready") {
		t.Errorf("an unknown event: %v %s", err, errs)
	}
}
