//go:build !unix

package embedded

import (
	"os"
	"path/filepath"
)

// lockDir has no lock to take here; the port in use is what keeps a second broker out.
func lockDir(dir, _ string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
}
