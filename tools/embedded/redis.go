package embedded

import (
	"context"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// redisTick is how late a key may expire: small beside the two seconds of a lease.
const redisTick = 50 * time.Millisecond

// Redis is a Redis in this process. Its keys are in memory and end with it.
type Redis struct {
	server *miniredis.Miniredis
	stop   context.CancelFunc
	driven sync.WaitGroup
}

// StartRedis listens on addr; port 0 takes a free one. A port in use is an error of one line that names --redis-bind.
func StartRedis(addr string) (*Redis, error) {
	server := miniredis.NewMiniRedis()
	if err := portInUse(server.StartAddr(addr), addr, "--redis-bind"); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &Redis{server: server, stop: stop}
	r.driven.Go(func() {
		tick := time.NewTicker(redisTick)
		defer tick.Stop()
		drive(ctx, server, time.Now(), tick.C)
	})
	return r, nil
}

// Addr is the host:port that Redis listens on.
func (r *Redis) Addr() string { return r.server.Addr() }

// Close stops listening and forgets every key.
func (r *Redis) Close() {
	r.stop()
	r.driven.Wait()
	r.server.Close()
}

// drive tells the server of the time that has passed since it was last told; without, no key would ever expire. It
// goes by the ticks' own times, so a tick that comes late makes up for it.
func drive(ctx context.Context, server *miniredis.Miniredis, last time.Time, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks:
			// A machine that wakes from sleep may jump, but time never goes back for a key.
			if d := now.Sub(last); d > 0 {
				server.FastForward(d)
				last = now
			}
		}
	}
}
