package harness

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a program that a test starts, kills and starts again, with the same
// arguments. Its output is printed when the test fails.
type Process struct {
	Name string

	t    testing.TB
	path string
	args []string
	log  string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	code int
	// asked: it was killed or told to stop since its last start.
	asked bool
}

// NewProcess prepares a program of Binary's; Start starts it. It is killed when the test ends.
func NewProcess(t testing.TB, name, binary string, args ...string) *Process {
	t.Helper()
	p := &Process{Name: name, t: t, path: Binary(t, binary), args: args, log: filepath.Join(t.TempDir(), name+".log")}
	t.Cleanup(func() {
		p.Kill9()
		if t.Failed() {
			t.Logf("the last output of %s (%s %s):\n%s", name, binary, strings.Join(args, " "), p.Tail(16<<10))
		}
	})
	return p
}

// Start starts the program; it must not be running.
func (p *Process) Start() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatalf("start %s: %v", p.Name, err)
	}
	defer out.Close()
	fmt.Fprintf(out, "--- start at %s\n", time.Now().Format(time.StampMilli))
	cmd := exec.Command(p.path, p.args...) //nolint:noctx // the test kills it
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.SysProcAttr = out, out, environment(), attributes()
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.Name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done, p.asked = cmd, done, false
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.code = exitCode(err)
		p.mu.Unlock()
		close(done)
	}()
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		return -1
	}
}

// environment is the test's own, without the settings of ExESDB: flags say everything.
func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "EXESDB_") && !strings.HasPrefix(e, "KAFKA_BROKERS=") && !strings.HasPrefix(e, "REDIS_ADDR=") {
			env = append(env, e)
		}
	}
	return env
}

// Kill9 kills the program at once and waits until it is gone.
func (p *Process) Kill9() {
	cmd, done := p.running()
	if cmd == nil {
		return
	}
	p.ask()
	_ = cmd.Process.Signal(syscall.SIGKILL) // gone already is as good
	<-done
}

// Stop asks the program to end (SIGTERM) and returns its exit code; the test fails if it does not end in time.
func (p *Process) Stop() int {
	p.t.Helper()
	cmd, done := p.running()
	if cmd == nil {
		return p.code
	}
	p.ask()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatalf("stop %s: %v", p.Name, err)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Signal(syscall.SIGQUIT) // its goroutines go to the log
		<-done
		p.t.Fatalf("%s did not end within 20s of SIGTERM", p.Name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.code
}

// Pause freezes the program (SIGSTOP); Resume wakes it.
func (p *Process) Pause() { p.signal(syscall.SIGSTOP) }

// Resume wakes a frozen program (SIGCONT).
func (p *Process) Resume() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) {
	p.t.Helper()
	cmd, _ := p.running()
	if cmd == nil {
		p.t.Fatalf("send %v to %s: it does not run", s, p.Name)
	}
	if err := cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("send %v to %s: %v", s, p.Name, err)
	}
}

func (p *Process) running() (*exec.Cmd, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil, nil
	}
	select {
	case <-p.done:
		return nil, nil
	default:
		return p.cmd, p.done
	}
}

// Running tells whether the program runs.
func (p *Process) Running() bool {
	cmd, _ := p.running()
	return cmd != nil
}

// Ended is an error when the program has ended by itself.
func (p *Process) Ended() error {
	if p.Running() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Errorf("%s ended with code %d", p.Name, p.code)
}

// EndedByItself is an error when the program was started and has ended, and was not made to.
func (p *Process) EndedByItself() error {
	if p.Running() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.asked {
		return nil
	}
	return fmt.Errorf("%s ended by itself with code %d", p.Name, p.code)
}

// ask notes that the program is made to end.
func (p *Process) ask() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
}

// Tail is the end of the program's output.
func (p *Process) Tail(most int) string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if len(text) > most {
		text = text[len(text)-most:]
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			text = text[i+1:]
		}
	}
	return string(text)
}

// FreeAddr is an address of this machine that nothing listens on. Its port is below
// the range that the kernel gives to clients, so that it stays free while the
// program that uses it is down.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000))
		if _, taken := given.LoadOrStore(addr, true); taken {
			continue
		}
		listener, err := net.Listen("tcp", addr)
		if err == nil {
			_ = listener.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

var given sync.Map
