package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/exesdb/exesdb/shared/version"
)

// Machine is what figures depend on.
type Machine struct {
	CPU      string        `json:"cpu"`
	Cores    int           `json:"cores"`
	OS       string        `json:"os"`
	FsyncP50 time.Duration `json:"fsync_p50_ns"`
	FsyncP99 time.Duration `json:"fsync_p99_ns"`
	ExESDB   string        `json:"exesdb"`
	Go       string        `json:"go"`
	NATS     string        `json:"nats_server"`
	Postgres string        `json:"postgres,omitempty"`
}

const fsyncSamples = 200

// measureMachine writes 4 KiB and syncs it, a few hundred times, in dir.
func measureMachine(dir string) (Machine, error) {
	m := Machine{
		CPU: "unknown CPU", Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH,
		ExESDB: version.String(), Go: runtime.Version(), NATS: server.VERSION,
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	file, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return m, fmt.Errorf("measure fsync: %w", err)
	}
	defer file.Close()
	took := make([]time.Duration, fsyncSamples)
	block := make([]byte, 4<<10)
	for i := range took {
		began := time.Now()
		if _, err := file.Write(block); err != nil {
			return m, fmt.Errorf("measure fsync: %w", err)
		}
		if err := file.Sync(); err != nil {
			return m, fmt.Errorf("measure fsync: %w", err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	m.FsyncP50, m.FsyncP99 = took[len(took)/2], took[len(took)*99/100]
	return m, nil
}

// statusKiB reads a line such as "VmRSS:   1234 kB" of /proc/<pid>/status.
func statusKiB(text, name string) int64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err == nil {
				return n
			}
		}
	}
	return 0
}
