package owner

import (
	"context"
	"sync"
)

// window bounds the commands in the log that wait for their outcome, so that a
// slow disk slows writers down instead of growing the log's tail without bound.
type window struct {
	count, bytes int64 // the bounds

	mu           sync.Mutex
	last         int64  // highest offset appended by this owner
	acknowledged int64  // highest offset announced
	held         int64  // bytes of all batches
	batches      []pile // appended and not yet wholly announced, in log order
	moved        chan struct{}
}

// pile is one batch in the log.
type pile struct{ last, bytes int64 }

func newWindow(count int, bytes, acknowledged int64) *window {
	return &window{count: int64(count), bytes: bytes, last: acknowledged, acknowledged: acknowledged, moved: make(chan struct{})}
}

// appended counts a batch that ends at offset.
func (w *window) appended(offset, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = offset
	w.held += bytes
	w.batches = append(w.batches, pile{offset, bytes})
}

func (w *window) announced(offset int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acknowledged = offset
	for len(w.batches) > 0 && w.batches[0].last <= offset {
		w.held -= w.batches[0].bytes
		w.batches = w.batches[1:]
	}
	close(w.moved)
	w.moved = make(chan struct{})
}

// await blocks while the window is full.
func (w *window) await(ctx context.Context) error {
	for {
		w.mu.Lock()
		full, moved := w.last-w.acknowledged >= w.count || w.held >= w.bytes, w.moved
		w.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
