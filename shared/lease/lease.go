// Package lease elects owners with locks in Redis: one lease per (role, shard).
//
// A lease only makes work efficient; it never decides. The log does that, by
// claims and terms (see the store's README). So a Redis that does not answer is
// no reason to stop: an owner goes on until Redis says that somebody else holds
// the lease, or the log shows a newer claim.
//
// The lock is SET key value NX PX ttl, renewed and released only by comparing
// the value (https://redis.io/docs/latest/develop/use/patterns/distributed-locks/).
package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// renew extends the lock if it is ours: 1 is extended, 0 is somebody else's, -1 is gone.
var renew = redis.NewScript(`
local v = redis.call('GET', KEYS[1])
if v == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]); return 1 end
if v then return 0 end
return -1`)

// release deletes the lock if it is ours.
var release = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)

// Client makes campaigns for one instance.
type Client struct {
	redis   redis.UniversalClient
	addr    string
	storeID string
	holder  string
	ttl     time.Duration
	log     *slog.Logger

	mu      sync.Mutex
	trouble error // what Redis's newest silence was; nil while it answers
}

// NewClient connects lazily: a Redis that starts later is found later.
// holder must be unique per start of an instance.
func NewClient(addr, storeID, holder string, ttl time.Duration, log *slog.Logger) *Client {
	rdb := redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1,
		DialTimeout: ttl / 2, ReadTimeout: ttl / 2, WriteTimeout: ttl / 2,
	})
	return &Client{redis: rdb, addr: addr, storeID: storeID, holder: holder, ttl: ttl, log: log}
}

// The library writes a line to stderr for each failed dial; answered says it once, in the instance's log.
func init() { redis.SetLogger(mute{}) } //nolint:gochecknoinits // the library's logger is a global

type mute struct{}

func (mute) Printf(context.Context, string, ...any) {}

// answered takes the result of a command and tells the log when Redis falls silent, and when it is back.
func (c *Client) answered(ctx context.Context, err error) {
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return // ours, not Redis's
	}
	c.mu.Lock()
	was := c.trouble
	c.trouble = err
	c.mu.Unlock()
	switch {
	case err != nil && was == nil:
		c.log.Warn("redis does not answer; leases stay as they are", "addr", c.addr, "error", err)
	case err == nil && was != nil:
		c.log.Warn("redis answers again", "addr", c.addr)
	}
}

// Explain adds to what an instance waits for that Redis does not answer, if that is so.
func (c *Client) Explain(waiting string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if waiting == "" || c.trouble == nil {
		return waiting
	}
	return fmt.Sprintf("%s (Redis at %s does not answer: %v)", waiting, c.addr, c.trouble)
}

// Healthy asks Redis whether it answers.
func (c *Client) Healthy(ctx context.Context) error {
	if err := c.redis.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	return nil
}

// Close closes the connection; leases that were not released expire.
func (c *Client) Close() error { return c.redis.Close() }

// Campaign is one instance's candidacy for the lease on (role, shard).
type Campaign struct {
	Role  string
	Shard int32

	client *Client
	key    string

	mu      sync.Mutex
	held    bool
	others  bool          // somebody else held it when Redis last answered
	yielded time.Time     // until then the campaign leaves the lease to others
	changed chan struct{} // closed and replaced at every change of held
}

// Campaign makes a candidacy; Run keeps it.
func (c *Client) Campaign(role string, shard int32) *Campaign {
	return &Campaign{
		Role: role, Shard: shard, client: c,
		key:     fmt.Sprintf("exesdb:{%s}:lease:%s:%d", c.storeID, role, shard),
		changed: make(chan struct{}),
	}
}

// Held tells whether the lease was ours when Redis last answered, and gives a
// channel that is closed at the next change.
func (c *Campaign) Held() (bool, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held, c.changed
}

// HeldElsewhere tells whether another instance held the lease when Redis last answered.
func (c *Campaign) HeldElsewhere() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.others
}

// Await blocks until the lease is held: true, or ctx is done: false.
func (c *Campaign) Await(ctx context.Context) bool {
	for {
		if ctx.Err() != nil {
			return false
		}
		held, changed := c.Held()
		if held {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// Run campaigns until ctx is done, then releases the lease.
func (c *Campaign) Run(ctx context.Context) {
	tick := time.NewTicker(c.client.ttl / 4)
	defer tick.Stop()
	for {
		c.step(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			c.release(context.WithoutCancel(ctx))
			return
		}
	}
}

// Yield gives the lease up and leaves it to others for one lifetime: the owner
// has seen in the log that it is not the owner any more.
func (c *Campaign) Yield(ctx context.Context) {
	c.mu.Lock()
	c.yielded = time.Now().Add(c.client.ttl)
	c.mu.Unlock()
	c.release(ctx)
}

func (c *Campaign) step(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.client.ttl/2)
	defer cancel()
	held, _ := c.Held()
	if held {
		state, err := renew.Run(ctx, c.client.redis, []string{c.key}, c.client.holder, c.client.ttl.Milliseconds()).Int()
		c.client.answered(ctx, err)
		switch {
		case err != nil || state == 1: // without an answer it goes on
		case state == 0:
			c.set(false)
		default: // expired or wiped: whoever sets it first has it
			c.set(c.acquire(ctx))
		}
		return
	}
	c.mu.Lock()
	wait := time.Now().Before(c.yielded)
	c.mu.Unlock()
	if !wait && c.acquire(ctx) {
		c.set(true)
	}
}

func (c *Campaign) acquire(ctx context.Context) bool {
	_, err := c.client.redis.SetArgs(ctx, c.key, c.client.holder, redis.SetArgs{Mode: "NX", TTL: c.client.ttl}).Result()
	c.client.answered(ctx, err)
	c.mu.Lock()
	c.others = errors.Is(err, redis.Nil)
	c.mu.Unlock()
	return err == nil
}

func (c *Campaign) release(ctx context.Context) {
	held, _ := c.Held()
	if !held {
		return
	}
	c.set(false)
	ctx, cancel := context.WithTimeout(ctx, c.client.ttl/2)
	defer cancel()
	if err := release.Run(ctx, c.client.redis, []string{c.key}, c.client.holder).Err(); err != nil {
		c.client.log.Debug("release lease: it expires by itself", "role", c.Role, "shard", c.Shard, "error", err)
	}
}

func (c *Campaign) set(held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held != held {
		c.held = held
		close(c.changed)
		c.changed = make(chan struct{})
	}
}
