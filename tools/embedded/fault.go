package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fault is what goes wrong with some requests, for tests; the broker must have been started with Faults. It has
// either an Error or a Drop.
type Fault struct {
	// API is produce or fetch.
	API string `json:"api"`
	// Topic restricts an Error to one topic.
	Topic string `json:"topic,omitempty"`
	// Error is the answer, by Kafka's name. With REQUEST_TIMED_OUT and NOT_ENOUGH_REPLICAS_AFTER_APPEND the records
	// of a produce are appended all the same; with the others nothing is.
	Error string `json:"error,omitempty"`
	// Drop closes the connection: "request" before the broker takes the request, "answer" after it was done, in the
	// middle of the answer.
	Drop string `json:"drop,omitempty"`
	// Every is one of how many go wrong; all when 0.
	Every int64 `json:"every,omitempty"`
	// Count is how many go wrong in all; no bound when 0.
	Count int `json:"count,omitempty"`
}

var apis = map[string]kmsg.Key{"produce": kmsg.Produce, "fetch": kmsg.Fetch}

var faultErrors = map[string]*kerr.Error{
	kerr.NotEnoughReplicas.Message:            kerr.NotEnoughReplicas,
	kerr.NotEnoughReplicasAfterAppend.Message: kerr.NotEnoughReplicasAfterAppend,
	kerr.RequestTimedOut.Message:              kerr.RequestTimedOut,
	kerr.NotLeaderForPartition.Message:        kerr.NotLeaderForPartition,
}

// Injected is a fault that was injected.
type Injected struct {
	hits   func() int
	remove func()
}

// Hits is how many requests went wrong so far.
func (i *Injected) Hits() int { return i.hits() }

// Remove ends the fault.
func (i *Injected) Remove() { i.remove() }

// Inject makes requests go wrong until Count of them have, or Remove.
func (b *Broker) Inject(f Fault) (*Injected, error) {
	api, known := apis[f.API]
	if !known {
		return nil, fmt.Errorf("fault: api %q: want produce or fetch", f.API)
	}
	var turns atomic.Int64
	turn := func() bool { return f.Every <= 1 || turns.Add(1)%f.Every == 0 }
	switch {
	case f.Error != "" && f.Drop == "":
		answer, known := faultErrors[f.Error]
		if !known {
			return nil, fmt.Errorf("fault: error %q is not known", f.Error)
		}
		count := f.Count
		if count == 0 {
			count = -1
		}
		h := b.cluster.Fault(kfake.Fault{
			Keys: []kmsg.Key{api}, Topic: f.Topic, Err: answer, Count: count,
			When: func(kmsg.Request) bool { return turn() },
		})
		return &Injected{h.Hits, h.Remove}, nil
	case f.Error == "" && f.Topic == "" && (f.Drop == dropRequest || f.Drop == dropAnswer):
		if b.drops == nil {
			return nil, errors.New("fault: the broker was not started with Faults")
		}
		d := &drop{api: int16(api), when: f.Drop, turn: turn, count: f.Count}
		b.drops.add(d)
		return &Injected{func() int { return int(d.hits.Load()) }, func() { b.drops.remove(d) }}, nil
	default:
		return nil, fmt.Errorf("fault: want an error, or a drop (%s or %s) of all topics", dropRequest, dropAnswer)
	}
}

// MoveLeaders gives every partition a leader chosen at random among two nodes; the second is added at the first call.
func (b *Broker) MoveLeaders() error {
	b.second.Do(func() {
		if _, _, err := b.cluster.AddNode(-1, 0); err != nil {
			b.secondErr = fmt.Errorf("add a node: %w", err)
		}
	})
	if b.secondErr == nil {
		b.cluster.ShufflePartitionLeaders()
	}
	return b.secondErr
}

const (
	dropRequest = "request"
	dropAnswer  = "answer"
)

// drop is a fault of connections.
type drop struct {
	api   int16
	when  string
	turn  func() bool
	count int
	hits  atomic.Int64
}

// drops are those that connections ask.
type drops struct {
	mu  sync.Mutex
	all map[*drop]bool
}

func (s *drops) add(d *drop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[d] = true
}

func (s *drops) remove(d *drop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, d)
}

// hit tells whether the connection is to be closed now.
func (s *drops) hit(api int16, when string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.all {
		if d.api != api || d.when != when || !d.turn() {
			continue
		}
		if d.hits.Add(1) == int64(d.count) {
			delete(s.all, d)
		}
		return true
	}
	return false
}

// faultyListener hands out connections that drops can close.
type faultyListener struct {
	net.Listener
	drops *drops
}

// Accept implements net.Listener.
func (l faultyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &faultyConn{Conn: c, drops: l.drops}, nil
}

var errDropped = errors.New("connection dropped by a fault")

// faultyConn follows the frames of a connection: each request begins with its size and its api, and the answers
// come in the order of the requests, one write each.
type faultyConn struct {
	net.Conn
	drops *drops

	head []byte // of the request that is being read; only Read uses it
	rest int    // bytes of it that are still to come

	mu    sync.Mutex
	taken []int16 // requests without an answer yet
}

// Read implements net.Conn.
func (c *faultyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for b := p[:n]; len(b) > 0; {
		if c.rest > 0 {
			skip := min(c.rest, len(b))
			b, c.rest = b[skip:], c.rest-skip
			continue
		}
		const sizeAndAPI = 6
		more := min(sizeAndAPI-len(c.head), len(b))
		c.head, b = append(c.head, b[:more]...), b[more:]
		if len(c.head) < sizeAndAPI {
			break
		}
		api := int16(binary.BigEndian.Uint16(c.head[4:]))
		c.head, c.rest = c.head[:0], int(binary.BigEndian.Uint32(c.head))-2
		if c.drops.hit(api, dropRequest) {
			return 0, errors.Join(errDropped, c.Close())
		}
		c.mu.Lock()
		c.taken = append(c.taken, api)
		c.mu.Unlock()
	}
	return n, err
}

// Write implements net.Conn.
func (c *faultyConn) Write(p []byte) (int, error) {
	api := int16(-1)
	c.mu.Lock()
	if len(c.taken) > 0 {
		api, c.taken = c.taken[0], c.taken[1:]
	}
	c.mu.Unlock()
	if !c.drops.hit(api, dropAnswer) {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(p[:len(p)/2])
	return n, errors.Join(errDropped, err, c.Close())
}
