package bus

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	backoffFirst = 20 * time.Millisecond
	backoffMost  = time.Second
)

// backoff waits longer each time, with jitter, from 20 ms to 1 s. The zero value is ready.
type backoff struct{ next time.Duration }

// wait returns false when ctx is done or the wait would end after the deadline
// (none if zero).
func (b *backoff) wait(ctx context.Context, deadline time.Time) bool {
	if b.next == 0 {
		b.next = backoffFirst
	}
	d := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, backoffMost)
	if !deadline.IsZero() && time.Now().Add(d).After(deadline) {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *backoff) reset() { b.next = 0 }
