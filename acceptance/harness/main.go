package harness

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Main runs the tests of a package that starts processes. Packages take turns on a
// machine, also when `go test` starts several: they measure times and share few cores.
func Main(m *testing.M) {
	unlock, err := lock("suite")
	if err != nil {
		fmt.Fprintln(os.Stderr, "acceptance:", err)
		os.Exit(1)
	}
	code := m.Run()
	unlock()
	os.Exit(code)
}

// Real tells whether the tests run on a given Kafka and Redis, and returns their addresses.
func Real() (kafka, redis string, ok bool) {
	kafka, redis = os.Getenv("KAFKA_BROKERS"), os.Getenv("REDIS_ADDR")
	return kafka, redis, kafka != "" && redis != ""
}

// EmbeddedOnly skips a test that needs the files or the process of the embedded broker.
func EmbeddedOnly(t testing.TB) {
	t.Helper()
	if _, _, given := Real(); given {
		t.Skip("works on the embedded broker's own process and files; this run uses a real Kafka")
	}
}

// Seconds is for how long a load runs: EXESDB_TEST_SECONDS, or the default.
func Seconds(t testing.TB, byDefault float64) time.Duration {
	t.Helper()
	if text := os.Getenv("EXESDB_TEST_SECONDS"); text != "" {
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || seconds <= 0 {
			t.Fatalf("EXESDB_TEST_SECONDS %q: want a number of seconds", text)
		}
		byDefault = seconds
	}
	return time.Duration(byDefault * float64(time.Second))
}

// Seed is what the random choices of a test follow from: EXESDB_TEST_SEED, or a new
// one. It is printed, so that a failure can be repeated.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64N(1 << 32)
	if text := os.Getenv("EXESDB_TEST_SEED"); text != "" {
		given, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("EXESDB_TEST_SEED %q: want a whole number", text)
		}
		seed = given
	}
	t.Logf("seed %d: EXESDB_TEST_SEED=%d go test -run '^%s$' repeats the choices", seed, seed, strings.ReplaceAll(t.Name(), "/", "$/^"))
	return seed
}

// Eventually asks until condition returns nil, and fails the test with its last error after the time given.
func Eventually(t testing.TB, within time.Duration, what string, condition func() error) {
	t.Helper()
	if err := Poll(within, condition); err != nil {
		t.Fatalf("%s within %v: %v", what, within, err)
	}
}

// Poll asks until condition returns nil, and returns its last error after the time given.
func Poll(within time.Duration, condition func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond) // between two questions, never instead of one
	}
}

// scratch is a directory that all test packages of this checkout share.
func scratch() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	h := fnv.New32a()
	fmt.Fprint(h, root, os.Getuid())
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("exesdb-acceptance-%08x", h.Sum32()))
	return dir, os.MkdirAll(dir, 0o700)
}

// Root is the root of the repository.
func Root() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", fmt.Errorf("find the repository: the tests were built without file names")
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file))), nil
}
