package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// MarshalJSON gives what the table shows.
func (c Cell) MarshalJSON() ([]byte, error) {
	r := c.Result
	if r.Latency == nil {
		return json.Marshal(map[string]string{"target": c.Target})
	}
	return json.Marshal(struct {
		Target     string  `json:"target"`
		Rate       float64 `json:"events_per_second"`
		P50        int64   `json:"p50_us"`
		P99        int64   `json:"p99_us"`
		Errors     int64   `json:"errors"`
		FirstError string  `json:"first_error,omitempty"`
	}{c.Target, r.Rate(), r.Quantile(50).Microseconds(), r.Quantile(99).Microseconds(), r.Errors, r.FirstError})
}

// Table writes the report for a reader. Ratios are ExESDB's rate to that of the target in the line.
func (r Report) Table(w io.Writer) error {
	m := r.Machine
	policy := "every append is fsynced before its answer (exesdb: the store's Pebble batch, its broker's log is not; limit: one fsync a batch; jetstream: SyncAlways"
	if m.Postgres != "" {
		policy += "; postgres: synchronous_commit on"
	}
	if _, err := fmt.Fprintf(w, "%s, %d cores, %s; fsync of 4 KiB p50 %s p99 %s\nexesdb %s, %s, nats-server %s%s\nevents of %d bytes; %s)\n%.3g s for each target in each row, in turns of 1 s\n\n",
		m.CPU, m.Cores, m.OS, short(m.FsyncP50), short(m.FsyncP99), m.ExESDB, m.Go, m.NATS, prefixed(", ", m.Postgres),
		r.EventBytes, policy, r.Seconds); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\ttarget\tevents/s\tp50\tp99\terrors\texesdb is\t\n")
	var notes []string
	for _, row := range r.Rows {
		name := row.Name
		own := row.rate(ExESDB)
		for _, c := range row.Cells {
			if c.Result.Latency == nil {
				continue
			}
			ratio := ""
			if rate := c.Result.Rate(); own > 0 && rate > 0 && c.Target != ExESDB {
				ratio = fmt.Sprintf("%.2fx", own/rate)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t\n", name, c.Target, thousands(c.Result.Rate()),
				short(c.Result.Quantile(50)), short(c.Result.Quantile(99)), c.Result.Errors, ratio)
			name = ""
			if c.Result.FirstError != "" {
				notes = append(notes, fmt.Sprintf("%s, %s: %d errors, the first: %s", row.Name, c.Target, c.Result.Errors, c.Result.FirstError))
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.Resident > 0 {
		notes = append(notes, fmt.Sprintf("resident memory of exesdb up: %d MiB", r.Resident>>20))
	}
	for _, n := range notes {
		if _, err := fmt.Fprintln(w, n); err != nil {
			return err
		}
	}
	return nil
}

func (row Row) rate(target string) float64 {
	for _, c := range row.Cells {
		if c.Target == target && c.Result.Latency != nil {
			return c.Result.Rate()
		}
	}
	return 0
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// thousands writes 12345.6 as 12,346.
func thousands(f float64) string {
	digits := fmt.Sprintf("%.0f", f)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// short writes a latency with three digits.
func short(d time.Duration) string {
	if d < time.Millisecond {
		return fmt.Sprintf("%dµs", d.Microseconds())
	}
	return fmt.Sprintf("%.3gms", float64(d.Microseconds())/1000)
}
