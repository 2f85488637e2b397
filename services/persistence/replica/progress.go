package replica

import (
	"context"
	"sync"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"github.com/exesdb/exesdb/services/persistence/core"
)

// Phase of a replica; the README has the diagram.
type Phase string

// The phases.
const (
	Recovering Phase = "recovering"  // checks that the log continues what it applied
	CatchingUp Phase = "catching up" // applies what was in the log at the start
	Serving    Phase = "serving"
	FullDisk   Phase = "disk full" // reads are served, nothing is applied
	Diverged   Phase = "diverged"  // stopped
)

// progress is how far the replica has come; others wait on it.
type progress struct {
	mu      sync.Mutex
	phase   Phase
	applied int64
	hash    uint64
	target  int64         // log offset through which it must come to have caught up
	reached bool          // target was applied once
	changed chan struct{} // closed and replaced when applied or reached change
}

func newProgress(s core.State) *progress {
	return &progress{phase: Recovering, applied: s.Applied, hash: s.OutcomeHash, changed: make(chan struct{})}
}

// begin sets the target and leaves the recovery.
func (p *progress) begin(target int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	p.phase = CatchingUp
	p.settle()
	p.wake()
}

func (p *progress) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// advance takes a commit into account.
func (p *progress) advance(s core.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied, p.hash = s.Applied, s.OutcomeHash
	if p.phase == FullDisk {
		p.phase = CatchingUp
	}
	p.settle()
	p.wake()
}

func (p *progress) settle() {
	if p.applied >= p.target {
		p.reached = true
	}
	if p.phase == CatchingUp && p.reached {
		p.phase = Serving
	}
}

func (p *progress) set(phase Phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = phase
}

func (p *progress) snapshot() (Phase, *eventsv1.ShardProgress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase, &eventsv1.ShardProgress{
		LogOffset: p.applied, OutcomeHash: p.hash,
		CaughtUp: p.reached && p.phase != Diverged && p.phase != Recovering,
	}
}

// caughtUp blocks until the target was reached or ctx is done.
func (p *progress) caughtUp(ctx context.Context) error {
	for {
		p.mu.Lock()
		reached, changed := p.reached, p.changed
		p.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// await blocks until the log is applied through offset or ctx is done.
func (p *progress) await(ctx context.Context, offset int64) error {
	for {
		p.mu.Lock()
		applied, changed := p.applied, p.changed
		p.mu.Unlock()
		if applied >= offset {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
