package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Names of the targets.
const (
	ExESDB    = "exesdb"
	Limit     = "limit"
	JetStream = "jetstream"
	Postgres  = "postgres"
)

const (
	slice      = time.Second // a target's turn within a row
	warmUp     = 300 * time.Millisecond
	grace      = 10 * time.Second
	hotWriters = 256
	batchSize  = 100
	readEvents = 100_000
	readers    = 4
)

// Options of a run.
type Options struct {
	Measure     time.Duration // of each target in each row
	EventBytes  int
	Writers     []int
	Addr, Token string // of a store that runs; none: start one
	Postgres    string // URL; none: not measured
	Only        []string
	Rows        []string // only rows of appends whose names have one of these; none: all
	Connections int
	Unary       bool
	NoAppends   bool
	Reads       bool
	UpFlags     []string
	// Dir is where servers keep their data; it is emptied by the caller.
	Dir string
	// Progress is told what is being measured.
	Progress func(string)
	// Profile, when set, is called while ExESDB is under load, with its admin address and the row's name.
	Profile func(admin, row string)
}

// Report is what a run has found.
type Report struct {
	Machine    Machine  `json:"machine"`
	EventBytes int      `json:"event_bytes"`
	Seconds    float64  `json:"seconds"`
	Targets    []string `json:"targets"`
	Rows       []Row    `json:"rows"`
	// Resident memory of `exesdb up` at the end, in bytes; 0 when it was not started by us.
	Resident int64 `json:"resident_bytes,omitempty"`
}

// Row is one workload on all targets.
type Row struct {
	Name  string `json:"name"`
	Cells []Cell `json:"cells"`
}

// Cell is one target's result.
type Cell struct {
	Target string
	Result Result
}

// fleet is the targets of a run with the processes behind them.
type fleet struct {
	targets   []Target
	processes []*process
	exesdb    *process // nil when it was not started by us
	admin     string
	postgres  string
}

func (f *fleet) close() error {
	var errs []error
	for _, t := range f.targets {
		errs = append(errs, t.Close())
	}
	for _, p := range f.processes {
		errs = append(errs, p.stop())
	}
	return errors.Join(errs...)
}

// open starts what is to be measured.
func open(ctx context.Context, o Options) (f *fleet, err error) {
	f = &fleet{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	for _, name := range o.Only {
		dir := filepath.Join(o.Dir, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return f, fmt.Errorf("make room for %s: %w", name, err)
		}
		var target Target
		switch name {
		case ExESDB:
			addr := o.Addr
			if addr == "" {
				if f.exesdb, addr, f.admin, err = startUp(ctx, dir, o.UpFlags); err != nil {
					return f, err
				}
				f.processes = append(f.processes, f.exesdb)
			}
			target, err = NewEventStore(GRPCOptions{Name: ExESDB, Addr: addr, Token: o.Token, Connections: o.Connections, Unary: o.Unary})
		case Limit, JetStream:
			p, addr, startErr := startKind(name, dir)
			if startErr != nil {
				return f, startErr
			}
			f.processes = append(f.processes, p)
			if name == Limit {
				target, err = NewEventStore(GRPCOptions{Name: Limit, Addr: addr, Connections: o.Connections})
			} else {
				target, err = NewJetStream(ctx, addr)
			}
		case Postgres:
			target, f.postgres, err = NewPostgres(ctx, o.Postgres)
		default:
			err = fmt.Errorf("no target %q; there are %s, %s, %s and %s", name, ExESDB, Limit, JetStream, Postgres)
		}
		if err != nil {
			return f, err
		}
		f.targets = append(f.targets, target)
	}
	return f, nil
}

// workloads are the rows of appends.
func workloads(o Options) []struct {
	name string
	Workload
} {
	type row = struct {
		name string
		Workload
	}
	event := Payload(o.EventBytes)
	var rows []row
	for _, n := range o.Writers {
		rows = append(rows, row{fmt.Sprintf("%d writer%s", n, plural(n)), Workload{Writers: n, Batch: 1, Event: event}})
	}
	rows = append(rows,
		row{fmt.Sprintf("hot stream, %d writers", hotWriters), Workload{Writers: hotWriters, Batch: 1, Hot: true, Event: event}},
		row{fmt.Sprintf("batches of %d, 16 writers", batchSize), Workload{Writers: 16, Batch: batchSize, Event: event}})
	return slices.DeleteFunc(rows, func(r row) bool {
		named := func(part string) bool { return strings.Contains(r.name, part) }
		return len(o.Rows) > 0 && !slices.ContainsFunc(o.Rows, named)
	})
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// Run measures everything. Servers that it starts are stopped before it returns.
func Run(ctx context.Context, o Options) (report Report, err error) {
	report = Report{EventBytes: o.EventBytes, Seconds: o.Measure.Seconds(), Targets: o.Only}
	if report.Machine, err = measureMachine(o.Dir); err != nil {
		return report, err
	}
	o.Progress("starting " + fmt.Sprint(o.Only))
	f, err := open(ctx, o)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	report.Machine.Postgres = f.postgres

	run := time.Now().UnixNano()
	if !o.NoAppends {
		for i, w := range workloads(o) {
			o.Progress(w.name)
			report.Rows = append(report.Rows, turns(ctx, o, f, w.name, func(target Target, turn int, t Timing) (Result, bool) {
				w.Streams = fmt.Sprintf("b%dr%dt%d", run, i, turn)
				return Drive(ctx, target, w.Workload, t), true
			}))
			if err := ctx.Err(); err != nil {
				return report, err
			}
		}
	}
	if o.Reads {
		rows, err := readRows(ctx, o, f, run)
		report.Rows = append(report.Rows, rows...)
		if err != nil {
			return report, err
		}
	}
	if f.exesdb != nil {
		report.Resident = residentBytes(f.exesdb.cmd.Process.Pid)
	}
	return report, ctx.Err()
}

// turns lets each target run for a second at a time until each has had its time.
func turns(ctx context.Context, o Options, f *fleet, name string, measure func(Target, int, Timing) (Result, bool)) Row {
	row := Row{Name: name, Cells: make([]Cell, len(f.targets))}
	left := o.Measure
	for turn := 0; left > 0 && ctx.Err() == nil; turn++ {
		for i, target := range f.targets {
			done := func() {}
			if target.Name() == ExESDB && turn == 0 && o.Profile != nil && f.admin != "" {
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					o.Profile(f.admin, name)
				}()
				done = func() { <-ended }
			}
			r, ok := measure(target, turn, Timing{WarmUp: warmUp, Measure: min(left, slice), Grace: grace})
			done()
			row.Cells[i].Target = target.Name()
			if ok {
				row.Cells[i].Result.Merge(r)
			}
		}
		left -= slice
	}
	return row
}

// readRows fills a stream and reads it.
func readRows(ctx context.Context, o Options, f *fleet, run int64) ([]Row, error) {
	stream := fmt.Sprintf("b%dread-0", run)
	o.Progress(fmt.Sprintf("filling a stream of %d events", readEvents))
	for _, target := range f.targets {
		if _, ok := target.(PageReader); !ok || target.Name() == Limit {
			continue
		}
		if _, err := Fill(ctx, target, stream, readEvents, Payload(o.EventBytes)); err != nil {
			return nil, fmt.Errorf("fill a stream of %s: %w", target.Name(), err)
		}
	}
	var rows []Row
	for _, limit := range []int{1000, 4096} {
		for _, n := range []int{1, readers} {
			name := fmt.Sprintf("pages of %d, %d reader%s", limit, n, plural(n))
			o.Progress(name)
			rows = append(rows, turns(ctx, o, f, name, func(target Target, _ int, t Timing) (Result, bool) {
				r, ok := target.(PageReader)
				if !ok || target.Name() == Limit {
					return Result{}, false
				}
				return ReadPages(ctx, r, stream, n, limit, t), true
			}))
		}
	}
	return rows, ctx.Err()
}

// Select is the targets to measure: all that can be, or those named.
func Select(only []string, postgresURL string) []string {
	all := []string{ExESDB, Limit, JetStream}
	if postgresURL != "" {
		all = append(all, Postgres)
	}
	if len(only) == 0 {
		return all
	}
	return slices.Compact(slices.Clone(only))
}
