//go:build unix

package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock takes the named lock among all test processes of this checkout; it is given
// back when the process ends, however it ends.
func lock(name string) (unlock func(), err error) {
	dir, err := scratch()
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", name, err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil { //nolint:gosec // a file descriptor
		return nil, fmt.Errorf("take lock %s: %w", name, err)
	}
	return func() { _ = file.Close() }, nil
}
