package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// How large the store is made, and by how many at once.
const (
	longCount   = 1_000_000
	longWriters = 512
	longBatch   = 500
	longTurns   = 5
)

// LongRow is the latency of appends in one state of the store.
type LongRow struct {
	State string `json:"state"`
	// Of one writer: the median over turns of each turn's quantile.
	P50, P99 time.Duration
	Resident int64 `json:"resident_bytes"`
	// Filling says how fast the state was reached, in events a second.
	Filling float64 `json:"filling_events_per_second,omitempty"`
}

// Long tells whether appending grows slower with the store.
func Long(ctx context.Context, o Options) (machine Machine, rows []LongRow, err error) {
	if machine, err = measureMachine(o.Dir); err != nil {
		return machine, nil, err
	}
	o.Only = []string{ExESDB}
	f, err := open(ctx, o)
	if err != nil {
		return machine, nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	target, event := f.targets[0], Payload(o.EventBytes)
	run := fmt.Sprintf("long%d", time.Now().UnixNano())
	measure := func(state, stream string, expected int64, filling float64) error {
		o.Progress("measuring: " + state)
		row, err := appendLatency(ctx, target, stream, expected, event, o.Measure)
		if err != nil {
			return err
		}
		row.State, row.Filling = state, filling
		if f.exesdb != nil {
			row.Resident = residentBytes(f.exesdb.cmd.Process.Pid)
		}
		rows = append(rows, row)
		return nil
	}
	if err := measure("an empty store", run+"-a", NoStream, 0); err != nil {
		return machine, rows, err
	}

	o.Progress(fmt.Sprintf("filling %d streams", longCount))
	began := time.Now()
	if err := concurrently(ctx, longWriters, longCount, func(n int64) error {
		_, err := target.Append(ctx, fmt.Sprintf("%ss-%d", run, n), NoStream, [][]byte{event})
		return err
	}); err != nil {
		return machine, rows, err
	}
	if err := measure(fmt.Sprintf("%d streams", longCount), run+"-b", NoStream, longCount/time.Since(began).Seconds()); err != nil {
		return machine, rows, err
	}

	o.Progress(fmt.Sprintf("filling one stream with %d events", longCount))
	batch := slices.Repeat([][]byte{event}, longBatch)
	began = time.Now()
	if err := concurrently(ctx, 8, longCount/longBatch, func(int64) error {
		_, err := target.Append(ctx, run+"-c", Any, batch)
		return err
	}); err != nil {
		return machine, rows, err
	}
	filling := longCount / time.Since(began).Seconds()
	if err := measure(fmt.Sprintf("a stream of %d events", longCount), run+"-c", longCount-1, filling); err != nil {
		return machine, rows, err
	}
	return machine, rows, measure("another stream then", run+"-d", NoStream, 0)
}

// concurrently does it count times, by some at once; the first error ends it.
func concurrently(ctx context.Context, workers int, count int64, do func(n int64) error) error {
	var (
		running sync.WaitGroup
		next    atomic.Int64
		once    sync.Once
		first   error
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range workers {
		running.Go(func() {
			for n := next.Add(1); n <= count && ctx.Err() == nil; n = next.Add(1) {
				if err := do(n); err != nil {
					once.Do(func() { first = err })
					cancel()
				}
			}
		})
	}
	running.Wait()
	if first != nil {
		return first
	}
	return ctx.Err()
}

// appendLatency is that of one writer on one stream.
func appendLatency(ctx context.Context, target Target, stream string, expected int64, event []byte, measure time.Duration) (LongRow, error) {
	var p50, p99 []time.Duration
	for range longTurns {
		turn := Result{Latency: newLatency()}
		for began, until := time.Now(), time.Now().Add(measure/longTurns+warmUp); began.Before(until); {
			var err error
			if expected, err = target.Append(ctx, stream, expected, [][]byte{event}); err != nil {
				return LongRow{}, err
			}
			ended := time.Now()
			_ = turn.Latency.RecordValue(max(ended.Sub(began).Microseconds(), 1))
			began = ended
		}
		p50, p99 = append(p50, turn.Quantile(50)), append(p99, turn.Quantile(99))
	}
	slices.Sort(p50)
	slices.Sort(p99)
	return LongRow{P50: p50[longTurns/2], P99: p99[longTurns/2]}, nil
}

// LongTable writes the rows for a reader.
func LongTable(w io.Writer, m Machine, rows []LongRow) error {
	if _, err := fmt.Fprintf(w, "%s, %d cores; fsync of 4 KiB p50 %s p99 %s; exesdb %s, one writer\n\n", m.CPU, m.Cores, short(m.FsyncP50), short(m.FsyncP99), m.ExESDB); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "append to\tp50\tp99\tto empty (p50)\tresident\tfilled at\t\n")
	for _, r := range rows {
		filled := ""
		if r.Filling > 0 {
			filled = thousands(r.Filling) + "/s"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.2fx\t%d MiB\t%s\t\n", r.State, short(r.P50), short(r.P99), float64(r.P50)/float64(rows[0].P50), r.Resident>>20, filled)
	}
	return t.Flush()
}
