package api

import (
	"context"
	"sync"

	"github.com/exesdb/exesdb/services/gateway/core"
)

// drain counts the requests in flight, so that a stop can wait for them.
type drain struct {
	mu       sync.Mutex
	inFlight int
	idle     chan struct{} // closed when stopping and nothing is in flight
	stopping chan struct{} // closed when the stop begins
	stopped  bool
}

func newDrain() *drain { return &drain{idle: make(chan struct{}), stopping: make(chan struct{})} }

// enter counts a request in; a problem when the gateway stops. leave must follow.
func (d *drain) enter(attempt string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return core.Unavailable(attempt, "this gateway stops; another one, or the next, answers")
	}
	d.inFlight++
	return nil
}

func (d *drain) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inFlight--
	if d.stopped && d.inFlight == 0 {
		close(d.idle)
	}
}

// Drain refuses new requests, ends subscriptions, and waits for what is in flight
// or for ctx. It is called once.
func (s *Service) Drain(ctx context.Context) error {
	d := s.drain
	d.mu.Lock()
	d.stopped = true
	close(d.stopping)
	if d.inFlight == 0 {
		close(d.idle)
	}
	d.mu.Unlock()
	select {
	case <-d.idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
