package storage

import (
	"fmt"
	"syscall"
	"testing"

	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"github.com/exesdb/exesdb/services/persistence/core"
)

// BenchmarkApply commits batches of a drained log, with fsync.
func BenchmarkApply(b *testing.B) {
	for _, c := range []struct{ writes, events int }{{256, 1}, {16, 100}} {
		b.Run(fmt.Sprintf("batch=%d/events=%d", c.writes, c.events), func(b *testing.B) {
			s := openShard(b, b.TempDir(), Options{})
			l := new(logOf)
			applyTo(b, s, l.claim())
			commands := 0
			n := int64(0)
			before := cpu(b)
			for b.Loop() {
				records := make([]*eventsv1.WriteCommandValidated, c.writes)
				b.StopTimer()
				for i := range records {
					events := make([]*eventsv1.NewEvent, c.events)
					for j := range events {
						n++
						events[j] = event(id("event", n), "order-placed", 512, "region-eu")
					}
					records[i] = l.append(fmt.Sprintf("order-%d", n%5000), id("write", n), core.ExpectAny, events...)
				}
				b.StartTimer()
				applyTo(b, s, records...)
				commands += c.writes
			}
			b.ReportMetric(float64(cpu(b)-before)/1e3/float64(commands*c.events), "cpu-us/event")
			b.ReportMetric(float64(commands)/b.Elapsed().Seconds(), "writes/s")
			b.ReportMetric(float64(commands*c.events)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// cpu is what the process has used, in nanoseconds, background work and the
// making of the records included: it tells more than the clock on a busy machine.
func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkReadStream pages forward through one stream of 512-byte events.
func BenchmarkReadStream(b *testing.B) {
	for _, c := range []struct{ streams, events int }{{1, 100}, {100, 1}} {
		b.Run(fmt.Sprintf("streams=%d/write=%d", c.streams, c.events), func(b *testing.B) {
			s := openShard(b, b.TempDir(), Options{})
			l := new(logOf)
			applyTo(b, s, l.claim())
			n := int64(0)
			for n < 200_000 {
				var records []*eventsv1.WriteCommandValidated
				for range 1000 / c.events {
					events := make([]*eventsv1.NewEvent, c.events)
					for j := range events {
						n++
						events[j] = event(id("event", n), "order-placed", 512)
					}
					records = append(records, l.append(fmt.Sprintf("order-%d", n%int64(c.streams)), id("write", n), core.ExpectAny, events...))
				}
				applyTo(b, s, records...)
			}
			read, bytes := int64(0), 0
			req := &eventsv1.HistoricalEventsRequested{Query: eventsv1.HistoricalEventsRequested_QUERY_STREAM, StreamId: "order-0", Limit: 1000, MaxBytes: 1 << 20}
			b.ResetTimer()
			for b.Loop() {
				page, err := s.Load(req, "persistence-0")
				if err != nil {
					b.Fatal(err)
				}
				bytes += len(page)
				b.StopTimer()
				var p eventsv1.HistoricalEventsLoaded
				if err := proto.Unmarshal(page, &p); err != nil {
					b.Fatal(err)
				}
				read += int64(len(p.Events))
				req.FromVersion = p.NextVersion
				if !p.HasMore {
					req.FromVersion = 0
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(bytes)/b.Elapsed().Seconds()/1e6, "MB/s")
		})
	}
}
