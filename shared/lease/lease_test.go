package lease

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

const ttl = 200 * time.Millisecond

// logged is a log that can be read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), what)
}

type node struct {
	*Client
	*Campaign
	log  *logged
	stop func()
}

// start makes an instance that campaigns for (store, 0).
func start(t *testing.T, server *miniredis.Miniredis, holder string) *node {
	t.Helper()
	log := &logged{}
	c := NewClient(server.Addr(), "s", holder, ttl, slog.New(slog.NewTextHandler(log, nil)))
	n := &node{Client: c, Campaign: c.Campaign("store", 0), log: log}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.Run(ctx)
	}()
	n.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		_ = c.Close()
	})
	t.Cleanup(n.stop)
	return n
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(time.Millisecond) // between two questions
	}
}

func (n *node) holds() bool { held, _ := n.Held(); return held }

// One of two holds the lease; when it stops, the other has it without waiting for it to expire.
func TestOneHoldsAndHandsOver(t *testing.T) {
	server := miniredis.RunT(t) // its clock stands still: nothing expires by itself
	a, b := start(t, server, "a"), start(t, server, "b")
	await(t, "one holds, the other knows", func() bool { return a.holds() && b.HeldElsewhere() || b.holds() && a.HeldElsewhere() })
	if a.holds() && b.holds() {
		t.Fatal("both hold the lease")
	}
	first, second := a, b
	if b.holds() {
		first, second = b, a
	}
	first.stop()
	await(t, "the other holds", second.holds)
}

// Redis gone is no reason to stop; Redis wiped gives the lease to whoever comes first, once.
func TestRedisGoneAndWiped(t *testing.T) {
	server := miniredis.RunT(t)
	a := start(t, server, "a")
	await(t, "a holds", a.holds)
	_, changed := a.Held()
	server.SetError("LOADING Redis is loading")
	await(t, "the log tells it", func() bool { return a.log.count("does not answer") == 1 })
	if text := a.Explain("a claim"); !a.holds() || !strings.Contains(text, server.Addr()) || !strings.Contains(text, "LOADING") {
		t.Fatalf("held %v, explained as %q", a.holds(), text)
	}
	server.FlushAll()
	server.SetError("")
	await(t, "the log tells it", func() bool { return a.log.count("answers again") == 1 })
	await(t, "the lease is in Redis again", func() bool { v, err := server.Get(a.key); return err == nil && v == "a" })
	if text := a.Explain("a claim"); !a.holds() || text != "a claim" || a.log.count("does not answer") != 1 {
		t.Fatalf("held %v, explained as %q", a.holds(), text)
	}
	select {
	case <-changed:
		t.Fatal("the work was interrupted")
	default:
	}
}

// A lease that expired and went to another is not renewed, nor deleted by its former holder.
func TestAnExpiredLeaseIsTheOthers(t *testing.T) {
	server := miniredis.RunT(t)
	a := start(t, server, "a")
	await(t, "a holds", a.holds)
	if err := server.Set(a.key, "b"); err != nil {
		t.Fatal(err)
	}
	await(t, "a knows", func() bool { return !a.holds() })
	await(t, "a knows of another", a.HeldElsewhere)
	a.stop()
	if v, err := server.Get(a.key); err != nil || v != "b" {
		t.Fatalf("the lease of another is %q, %v", v, err)
	}
}

// Who yields leaves the lease to others for a while, then campaigns again.
func TestYield(t *testing.T) {
	server := miniredis.RunT(t)
	a := start(t, server, "a")
	await(t, "a holds", a.holds)
	b := start(t, server, "b")
	await(t, "b waits", b.HeldElsewhere)
	a.Yield(t.Context())
	await(t, "b holds", b.holds)
	b.stop()
	await(t, "a holds again", a.holds)
}
