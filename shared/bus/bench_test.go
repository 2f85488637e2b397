package bus

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

func benchRecords(n int) []Record {
	e := Event{ID: "0190-0000-0000", Source: "/store/store-0", Type: "write_command_validated", Subject: "orders-1", Time: time.Now(), StoreID: "exesdb", Node: "store-0", Incarnation: 1, Sequence: 1}
	rs := make([]Record, n)
	for i := range rs {
		rs[i] = Record{Key: []byte("orders-1"), Value: make([]byte, 512), Headers: e.Headers()}
	}
	return rs
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 256} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			k := newCluster(b, 1, kfake.SeedTopics(1, "t"), kfake.BlackholeProduce())
			p := newProducer(b, dial(b, configOf(k)))
			rs := benchRecords(n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Append(context.Background(), "t", 0, rs); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkReaderDrain(b *testing.B) {
	const total = 100 * 256
	k := newCluster(b, 1, kfake.SeedTopics(1, "t"))
	c := dial(b, configOf(k))
	p := newProducer(b, c)
	rs := benchRecords(256)
	for range total / 256 {
		if _, err := p.Append(context.Background(), "t", 0, rs); err != nil {
			b.Fatal(err)
		}
	}
	for _, prefetch := range []bool{false, true} {
		b.Run(fmt.Sprintf("prefetch=%t", prefetch), func(b *testing.B) {
			r := newReader(b, c, ReaderOptions{Topic: "t", Prefetch: prefetch, Dense: true, MaxBytes: 1 << 20})
			b.ReportAllocs()
			for b.Loop() {
				for n := 0; n < total; {
					rs, err := r.Poll(context.Background())
					if err != nil {
						b.Fatal(err)
					}
					n += len(rs)
				}
				r.SeekTo(0)
			}
			b.ReportMetric(float64(total*b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
