package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

const patience = 20 * time.Second // of a test for anything; reached only by failures

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func newCluster(t testing.TB, brokers int, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(brokers)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func configOf(c *kfake.Cluster) Config {
	return Config{Brokers: c.ListenAddrs(), ClientID: "test"}
}

func dial(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := Dial(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newProducer(t testing.TB, c *Client) *Producer {
	p := NewProducer(c)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func newReader(t testing.TB, c *Client, o ReaderOptions) *Reader {
	t.Helper()
	r, err := NewReader(c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// values makes n records whose values are prefix-0, prefix-1, …
func values(prefix string, n int) []Record {
	rs := make([]Record, n)
	for i := range rs {
		rs[i].Value = fmt.Appendf(nil, "%s-%d", prefix, i)
	}
	return rs
}

// readN reads exactly n records and fails on more.
func readN(t testing.TB, r *Reader, n int) []Record {
	t.Helper()
	var all []Record
	ctx := within(t)
	for len(all) < n {
		rs, err := r.Poll(ctx)
		if err != nil {
			t.Fatalf("after %d of %d records: %v", len(all), n, err)
		}
		if len(rs) == 0 {
			t.Fatal("Poll returned nothing")
		}
		all = append(all, rs...)
	}
	if len(all) != n {
		t.Fatalf("read %d records, want %d", len(all), n)
	}
	return all
}

// wantLog checks that the partition holds exactly these values.
func wantLog(t testing.TB, c *Client, topic string, partition int32, want ...string) {
	t.Helper()
	_, next, err := c.Watermark(within(t), topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	if int(next) != len(want) {
		t.Fatalf("the log ends at %d, want %d", next, len(want))
	}
	r := newReader(t, c, ReaderOptions{Topic: topic, Partition: partition, Dense: true})
	for i, rec := range readN(t, r, len(want)) {
		if rec.Offset != int64(i) || string(rec.Value) != want[i] {
			t.Fatalf("offset %d: %q, want offset %d: %q", rec.Offset, rec.Value, i, want[i])
		}
	}
}

// wire breaks connections. Its dial goes into Config.Dial.
type wire struct {
	armed atomic.Bool
	// chance, of 1000, that a read or write breaks its connection while armed: a
	// write before the request is sent, a read after the answer was thrown away.
	chance int
	broken atomic.Int64
}

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &wireConn{Conn: c, w: w}, nil
}

type wireConn struct {
	net.Conn
	w *wire
}

func (c *wireConn) breaks() bool {
	if c.w.armed.Load() && rand.IntN(1000) < c.w.chance {
		c.w.broken.Add(1)
		_ = c.Conn.Close()
		return true
	}
	return false
}

func (c *wireConn) Write(b []byte) (int, error) {
	if c.breaks() {
		return 0, errors.New("broken by the test before the request was sent")
	}
	return c.Conn.Write(b)
}

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && c.breaks() {
		return 0, errors.New("broken by the test after the answer had come")
	}
	return n, err
}
