package storage

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrDiskFull is matched by every refusal of a commit for want of space. The
// commit may be tried again as it is when there is space.
var ErrDiskFull = errors.New("disk is full")

// DiskFullError says how much space is missing.
type DiskFullError struct {
	Dir string
	// FreeBytes is what is there, NeedBytes what the commit and the watermark ask for.
	FreeBytes, NeedBytes uint64
}

// Error implements error.
func (e *DiskFullError) Error() string {
	return fmt.Sprintf("commit to %s: disk is full: %d bytes free, %d needed: free some space, or lower --min-free-bytes", e.Dir, e.FreeBytes, e.NeedBytes)
}

// Unwrap makes errors.Is(err, ErrDiskFull) true.
func (e *DiskFullError) Unwrap() error { return ErrDiskFull }

const (
	defaultMinFree        = 256 << 20
	defaultMinFreePercent = 2
)

// ensureSpace refuses a commit while it still can be refused: Pebble ends the
// process when its log cannot be written.
func (s *Shard) ensureSpace(commit int) error {
	usage, err := s.opts.FS.GetDiskUsage(s.dir)
	if err != nil {
		if errors.Is(err, vfs.ErrUnsupported) {
			return nil
		}
		return fmt.Errorf("read free space of %s: %w", s.dir, err)
	}
	need := s.opts.MinFreeBytes
	if need == 0 {
		need = min(defaultMinFree, usage.TotalBytes/100*defaultMinFreePercent)
	}
	need += uint64(commit)
	if usage.AvailBytes < need {
		return &DiskFullError{Dir: s.dir, FreeBytes: usage.AvailBytes, NeedBytes: need}
	}
	return nil
}
