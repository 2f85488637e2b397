package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// PageReader is a target whose streams can be read page by page.
type PageReader interface {
	ReadPage(ctx context.Context, stream string, from int64, limit int) (n int, next int64, more bool, err error)
}

// Fill appends n events to one stream, in batches, and returns its last version.
func Fill(ctx context.Context, target Target, stream string, n int, event []byte) (int64, error) {
	const most = 500
	head := NoStream
	for n > 0 {
		batch := make([][]byte, min(n, most))
		for i := range batch {
			batch[i] = event
		}
		var err error
		if head, err = target.Append(ctx, stream, head, batch); err != nil {
			return 0, err
		}
		n -= len(batch)
	}
	return head, nil
}

// ReadPages lets some readers read the whole stream again and again; a sample of the latency is one page.
func ReadPages(ctx context.Context, target PageReader, stream string, readers, limit int, t Timing) Result {
	from := time.Now().Add(t.WarmUp)
	until := from.Add(t.Measure)
	ctx, cancel := context.WithDeadline(ctx, until.Add(t.Grace))
	defer cancel()
	var (
		running sync.WaitGroup
		events  atomic.Int64
		mu      sync.Mutex
		total   = Result{Elapsed: t.Measure, Latency: newLatency()}
	)
	for range readers {
		running.Go(func() {
			var at int64
			for began := time.Now(); began.Before(until) && ctx.Err() == nil; {
				n, next, more, err := target.ReadPage(ctx, stream, at, limit)
				ended := time.Now()
				if err == nil && n == 0 {
					err = fmt.Errorf("read stream %s from version %d: an empty page", stream, at)
				}
				if err != nil {
					mu.Lock()
					if total.Errors++; total.FirstError == "" {
						total.FirstError = err.Error()
					}
					mu.Unlock()
					if !pause(ctx, afterError) {
						return
					}
					began, at = time.Now(), 0
					continue
				}
				if at = next; !more {
					at = 0
				}
				if !ended.Before(from) && ended.Before(until) {
					events.Add(int64(n))
					mu.Lock()
					_ = total.Latency.RecordValue(max(ended.Sub(began).Microseconds(), 1))
					mu.Unlock()
				}
				began = ended
			}
		})
	}
	running.Wait()
	total.Events = events.Load()
	return total
}
