package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Expected versions with a meaning of their own; see the API.
const (
	NoStream int64 = -1
	Any      int64 = -2
)

// Target is a store under load. Append is called by many writers at once.
type Target interface {
	Name() string
	// Append writes all events or none. What it returns is the expected version of the next append to that
	// stream; only the target knows what it means.
	Append(ctx context.Context, stream string, expected int64, events [][]byte) (version int64, err error)
	Close() error
}

// Workload says who writes what.
type Workload struct {
	// Streams is what the names of the streams begin with; two runs with the same one would conflict.
	Streams string
	Writers int
	// Batch is the number of events of one append.
	Batch int
	// Hot makes all writers append to one stream, at any version. Otherwise each has its own and expects the
	// version it has last seen.
	Hot   bool
	Event []byte
}

// Timing of one run. Answers count that arrive within Measure after WarmUp.
type Timing struct {
	WarmUp, Measure time.Duration
	// Grace is how long answers are waited for at the end; those that miss it are errors.
	Grace time.Duration
}

// Result of one run or, merged, of several.
type Result struct {
	Events  int64
	Elapsed time.Duration
	// Latency of appends in microseconds.
	Latency *hdrhistogram.Histogram
	// Errors counts those during warm-up too.
	Errors     int64
	FirstError string
}

// afterError is how long a writer waits before it goes on, so that a store that is down is not hammered.
const afterError = 10 * time.Millisecond

func newLatency() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, (2 * time.Minute).Microseconds(), 3)
}

// Rate is acknowledged events a second.
func (r *Result) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Events) / r.Elapsed.Seconds()
}

// Quantile of the latency, q from 0 to 100.
func (r *Result) Quantile(q float64) time.Duration {
	return time.Duration(r.Latency.ValueAtQuantile(q)) * time.Microsecond
}

// Merge adds another run of the same workload.
func (r *Result) Merge(o Result) {
	if r.Latency == nil {
		r.Latency = newLatency()
	}
	r.Events += o.Events
	r.Elapsed += o.Elapsed
	r.Errors += o.Errors
	if r.FirstError == "" {
		r.FirstError = o.FirstError
	}
	if o.Latency != nil {
		r.Latency.Merge(o.Latency)
	}
}

// Drive runs a workload: all writers at once, each with one append in flight.
func Drive(ctx context.Context, target Target, w Workload, t Timing) Result {
	began := time.Now()
	from := began.Add(t.WarmUp)
	until := from.Add(t.Measure)
	ctx, cancel := context.WithDeadline(ctx, until.Add(t.Grace))
	defer cancel()

	events := make([][]byte, max(w.Batch, 1))
	for i := range events {
		events[i] = w.Event
	}
	writers := make([]writer, w.Writers)
	var running sync.WaitGroup
	for i := range writers {
		writers[i] = writer{target: target, events: events, hot: w.Hot, name: fmt.Sprintf("%sw%d", w.Streams, i)}
		if w.Hot {
			writers[i].name = w.Streams + "hot"
		}
		running.Go(func() { writers[i].run(ctx, from, until) })
	}
	running.Wait()

	total := Result{Elapsed: t.Measure, Latency: newLatency()}
	for i := range writers {
		total.Errors += writers[i].errors
		if total.FirstError == "" && writers[i].first != nil {
			total.FirstError = writers[i].first.Error()
		}
		total.Events += int64(len(writers[i].took)) * int64(len(events))
		for _, us := range writers[i].took {
			// A value beyond the histogram's end counts as its end.
			_ = total.Latency.RecordValue(min(max(us, 1), total.Latency.HighestTrackableValue()))
		}
	}
	return total
}

// writer is one client of the store. Its samples are kept as they are and put into a histogram at the end: a
// thousand histograms would not fit the cache.
type writer struct {
	target Target
	events [][]byte
	hot    bool
	name   string

	took   []int64 // microseconds
	errors int64
	first  error
}

func (w *writer) run(ctx context.Context, from, until time.Time) {
	stream, expected := w.open(0)
	for began := time.Now(); began.Before(until) && ctx.Err() == nil; {
		version, err := w.target.Append(ctx, stream, expected, w.events)
		ended := time.Now()
		switch {
		case err != nil:
			if context.Cause(ctx) == context.Canceled { //nolint:errorlint // a cause is compared as it is
				return // the user stopped the bench
			}
			w.errors++
			if w.first == nil {
				w.first = err
			}
			// What became of the append is not known: go on where nothing was written.
			stream, expected = w.open(w.errors)
			if !pause(ctx, afterError) {
				return
			}
			ended = time.Now()
		default:
			if !w.hot {
				expected = version
			}
			if !ended.Before(from) && ended.Before(until) {
				w.took = append(w.took, ended.Sub(began).Microseconds())
			}
		}
		began = ended
	}
}

// open names the writer's n-th stream. Each is a category of its own: see postgres.go.
func (w *writer) open(n int64) (stream string, expected int64) {
	if w.hot {
		return w.name, Any
	}
	return fmt.Sprintf("%s-%d", w.name, n), NoStream
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Payload is a JSON value of n bytes that no compression shortens by much.
func Payload(n int) []byte {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	const head, tail = `{"text":"`, `"}`
	b := []byte(head)
	for len(b) < n-len(tail) {
		b = append(b, digits[rand.IntN(len(digits))]) //nolint:gosec // no secret
	}
	return append(b, tail...)
}
