package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/exesdb/exesdb/contracts/registry"
)

// binaries builds the command, the services and the helper, once per test process;
// the go command does nothing where the files are up to date.
var binaries = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("EXESDB_TEST_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := scratch()
	if err != nil {
		return "", err
	}
	unlock, err := lock("build")
	if err != nil {
		return "", err
	}
	defer unlock()
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "bin")
	args := []string{"build", "-buildvcs=false", "-o", dir + string(filepath.Separator), "./tools/exesdb", "./acceptance/harness/infra"}
	for _, s := range registry.All() {
		args = append(args, "./services/"+string(s))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the binaries: %w\n%s", err, out)
	}
	return dir, nil
})

// Binary is the path of a built program: exesdb, infra, or a system's name.
func Binary(t testing.TB, name string) string {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
