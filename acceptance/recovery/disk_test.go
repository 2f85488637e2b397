//go:build linux

package recovery

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/acceptance/load"
)

// The space that must be left when the file system becomes "full", and the file that fills it. Both are large beside
// what other programs take and free meanwhile.
const (
	spaceLeft = 2 << 30
	fileBytes = 2 * spaceLeft
	leastFree = spaceLeft + fileBytes
)

// TestDiskFills: the free space falls below the watermark in the middle of a load. Writes are refused and say why,
// reads go on, nothing is lost or doubled, and with space again writes go on in the same process. Twice.
func TestDiskFills(t *testing.T) {
	dir := t.TempDir()
	free := freeBytes(t, dir)
	if free < leastFree+spaceLeft {
		t.Skipf("%d MiB are free at %s: this test allocates %d MiB for a moment and leaves as much", free>>20, dir, int64(fileBytes>>20))
	}
	s := harness.Up(t, harness.Options{DataDir: dir, Args: []string{"--min-free-bytes", strconv.FormatUint(free-spaceLeft, 10)}})
	l := load.Start(t, s, load.Options{Seed: harness.Seed(t)})
	l.AwaitMore(200, 30*time.Second)

	for range 2 {
		freeAgain := fill(t, filepath.Join(filepath.Dir(dir), "filler"))
		refused(t, s)
		if status, text, err := s.Readyz("gateway-0"); err != nil || status != http.StatusServiceUnavailable || !strings.Contains(text, "disk full") {
			t.Errorf("/readyz: %d %q %v, want 503 that names the full disk", status, text, err)
		}
		if page, err := s.REST.ReadPage(t.Context(), "s0", "limit=10"); err != nil || len(page.Events) == 0 {
			t.Errorf("read with a full disk: %d events, %v", len(page.Events), err)
		}
		freeAgain()
		l.AwaitMore(200, 30*time.Second)
		s.AwaitReady(30 * time.Second)
	}
	ops, _ := l.Check()
	load.CheckFeed(t, s, ops)
	// What was refused, or given up, is one write still.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, _, err := harness.AppendUntilKnown(ctx, s.REST, refusable); err != nil {
		t.Errorf("the refused append, again: %v", err)
	}
	if events, err := s.REST.ReadStream(ctx, refusable.Stream); err != nil || len(events) != 1 {
		t.Errorf("%d events, %v, want the one", len(events), err)
	}
	s.StillUp()
}

var refusable = harness.Append{Stream: "full", Key: "k", Events: []harness.Event{{EventType: "T", Data: []byte("1")}}}

// refused waits until an append is refused because of the disk.
func refused(t *testing.T, s *harness.Running) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, "an append is refused because the disk is full", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // one that was let in waits for space
		defer cancel()
		_, err := s.REST.Append(ctx, refusable)
		switch {
		case err == nil:
			return errors.New("it was taken")
		case harness.Status(err) != http.StatusServiceUnavailable || !strings.Contains(err.Error(), "disk full"):
			return err
		}
		return nil
	})
}

func freeBytes(t *testing.T, dir string) uint64 {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return fs.Bavail * uint64(fs.Bsize) //nolint:gosec // a size
}

// fill allocates a large file, which writes nothing, and returns what removes it.
func fill(t *testing.T, path string) (remove func()) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	remove = func() {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
	t.Cleanup(remove)
	err = syscall.Fallocate(int(f.Fd()), 0, 0, fileBytes)
	if cerr := f.Close(); cerr != nil {
		t.Fatal(cerr)
	}
	if err != nil {
		t.Skipf("allocate %d MiB at %s: %v", int64(fileBytes>>20), path, err)
	}
	return remove
}
