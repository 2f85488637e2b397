package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/exesdb/exesdb/tools/bench"
)

// benchCommand measures the store beside its limit and its peers.
type benchCommand struct {
	Seconds     float64  `name:"seconds" default:"3" help:"Time for each target in each row."`
	EventBytes  int      `name:"event-bytes" default:"512" help:"Size of an event's data."`
	Writers     []int    `name:"writers" default:"1,32,256,1024" help:"Writers of each row, each on a stream of its own."`
	Addr        string   `name:"addr" help:"gRPC address of a store that runs; without, one is started for the time of the run."`
	Token       string   `name:"token" env:"EXESDB_TOKEN" help:"Bearer token, when the gateway asks for one."`
	Postgres    string   `name:"postgres" env:"EXESDB_BENCH_POSTGRES" help:"URL of a PostgreSQL to compare with; its schema exesdb_bench is made anew."`
	Only        []string `name:"only" enum:"exesdb,limit,jetstream,postgres" help:"Only these targets (${enum})."`
	Rows        []string `name:"rows" help:"Only rows of appends whose names have one of these, such as --rows=hot,batches."`
	Reads       bool     `name:"reads" help:"Also read pages of a stream."`
	Appends     bool     `name:"appends" default:"true" negatable:"" help:"Measure appends."`
	Long        bool     `name:"long" help:"Measure whether appends get slower with a million streams, and with a million events in one; takes minutes."`
	Connections int      `name:"connections" default:"2" help:"gRPC connections that the writers share."`
	Unary       bool     `name:"unary" help:"One call for each append instead of sharing AppendStream calls."`
	UpFlags     []string `name:"up-flag" help:"Flag for the store that is started, such as --up-flag=--shards=4; repeatable."`
	JSON        bool     `name:"json" help:"Print the report as JSON."`
	Profile     string   `name:"profile" help:"Directory for a CPU profile of the store that is started, for each row."`
	DataDir     string   `name:"data-dir" help:"Where servers keep their data (default: a temporary directory, removed at the end)."`
	Serve       string   `name:"serve" hidden:"" enum:",limit,jetstream" default:"" help:"Be one of the servers."`
}

// Run measures and prints.
func (b *benchCommand) Run(ctx context.Context) (err error) {
	if b.Serve != "" {
		return bench.Serve(ctx, b.Serve, b.DataDir)
	}
	if err := b.validate(); err != nil {
		return err
	}
	dir := b.DataDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "exesdb-bench-"); err != nil {
			return fmt.Errorf("make a temporary directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	o := bench.Options{
		Measure: time.Duration(b.Seconds * float64(time.Second)), EventBytes: b.EventBytes, Writers: b.Writers,
		Addr: b.Addr, Token: b.Token, Postgres: b.Postgres, Only: bench.Select(b.Only, b.Postgres), Rows: b.Rows,
		Connections: b.Connections, Unary: b.Unary, NoAppends: !b.Appends, Reads: b.Reads, UpFlags: b.UpFlags, Dir: dir,
		Progress: func(doing string) { fmt.Fprintln(os.Stderr, "bench:", doing) },
	}
	if b.Profile != "" {
		if err := os.MkdirAll(b.Profile, 0o700); err != nil {
			return fmt.Errorf("make the directory of profiles: %w", err)
		}
		o.Profile = b.profile
	}
	if b.Long {
		machine, rows, err := bench.Long(ctx, o)
		if b.JSON {
			return errors.Join(err, json.NewEncoder(os.Stdout).Encode(map[string]any{"machine": machine, "rows": rows}))
		}
		if len(rows) > 0 {
			err = errors.Join(err, bench.LongTable(os.Stdout, machine, rows))
		}
		return err
	}
	report, err := bench.Run(ctx, o)
	if b.JSON {
		return errors.Join(err, json.NewEncoder(os.Stdout).Encode(report))
	}
	if len(report.Rows) > 0 {
		err = errors.Join(err, report.Table(os.Stdout))
	}
	return err
}

// eventBytesLimits are what a JSON value needs and what a write may have.
const leastEventBytes, mostEventBytes = 16, 1 << 20

func (b *benchCommand) validate() error {
	var errs []error
	if b.Seconds <= 0 {
		errs = append(errs, fmt.Errorf("--seconds %v: want more than 0", b.Seconds))
	}
	if b.EventBytes < leastEventBytes || b.EventBytes > mostEventBytes {
		errs = append(errs, fmt.Errorf("--event-bytes %d: want %d to %d", b.EventBytes, leastEventBytes, mostEventBytes))
	}
	for _, n := range b.Writers {
		if n < 1 {
			errs = append(errs, fmt.Errorf("--writers %d: want 1 or more", n))
		}
	}
	if b.Connections < 1 {
		errs = append(errs, fmt.Errorf("--connections %d: want 1 or more", b.Connections))
	}
	return errors.Join(errs...)
}

// profile keeps one second of what the store does.
func (b *benchCommand) profile(admin, row string) {
	name := filepath.Join(b.Profile, strings.ReplaceAll(strings.ReplaceAll(row, ", ", "-"), " ", "-")+".pprof")
	err := func() error {
		resp, err := http.Get("http://" + admin + "/debug/pprof/profile?seconds=1") //nolint:gosec,noctx // ourselves
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		file, err := os.Create(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, resp.Body)
		return errors.Join(err, file.Close())
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: profile:", err)
	}
}
