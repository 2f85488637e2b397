package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Servers that this program runs in a process of their own, so that each has its own scheduler and garbage
// collector and dies alone.
const (
	KindLimit     = "limit"
	KindJetStream = "jetstream"
)

// Serve is the main of such a process: it says where it listens in one line on standard output and ends with ctx,
// or when its parent does, which closes its standard input.
func Serve(ctx context.Context, kind, dir string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	ready := func(addr string) { fmt.Println(addr) }
	switch kind {
	case KindLimit:
		return ServeLimit(ctx, dir, ready)
	case KindJetStream:
		return ServeJetStream(ctx, dir, ready)
	}
	return fmt.Errorf("no server %q", kind)
}

// process is a server that was started by us.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	errors *lastBytes
	ended  chan struct{}
	result error
}

// start runs this program again.
func start(args ...string) (*process, *bufio.Reader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("find this program: %w", err)
	}
	p := &process{cmd: exec.Command(self, args...), errors: &lastBytes{}, ended: make(chan struct{})} //nolint:gosec,noctx // ourselves; stopped by stop
	p.cmd.Stderr = p.errors
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	p.stdin = stdin
	out, in, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	p.cmd.Stdout = in
	err = p.cmd.Start()
	_ = in.Close()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start %s: %w", args[0], err), out.Close())
	}
	go func() {
		p.result = p.cmd.Wait()
		_ = out.Close()
		close(p.ended)
	}()
	return p, bufio.NewReader(out), nil
}

// startKind starts a server of [Serve] and returns where it listens.
func startKind(kind, dir string) (*process, string, error) {
	p, out, err := start("bench", "--serve", kind, "--data-dir", dir)
	if err != nil {
		return nil, "", err
	}
	addr, err := out.ReadString('\n')
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("start %s: it ended before it was ready: %s", kind, p.errors), p.stop())
	}
	return p, strings.TrimSpace(addr), nil
}

// stop asks politely, and kills after ten seconds.
func (p *process) stop() error {
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(os.Interrupt)
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not stop within 10 s and was killed", p.cmd.Args)
	}
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	mu   sync.Mutex
	kept []byte
}

const lastBytesKept = 4 << 10

func (l *lastBytes) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, b...)
	if extra := len(l.kept) - lastBytesKept; extra > 0 {
		l.kept = l.kept[extra:]
	}
	return len(b), nil
}

func (l *lastBytes) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(string(l.kept))
}
