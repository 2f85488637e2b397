package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// Client knows the cluster: its brokers, topics and leaders. Producers and readers
// share it and make their own connections. It is safe for concurrent use.
type Client struct {
	cfg    Config
	base   *sarama.Config
	sarama sarama.Client

	mu      sync.RWMutex
	leaders map[topicPartition]string // address; absent means ask the cluster anew
}

type topicPartition struct {
	topic     string
	partition int32
}

// quietFor is how long Kafka may take to answer before the log says so.
const quietFor = 2 * time.Second

// Dial connects to the cluster, and keeps trying until ctx is done, since Kafka may
// start later than we do. The error then names the addresses and what to do.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	base, err := cfg.sarama()
	if err != nil {
		return nil, err
	}
	var pause backoff
	silence := time.NewTimer(quietFor)
	defer silence.Stop()
	for {
		sc, err := callLate(ctx, func() (sarama.Client, error) { return sarama.NewClient(cfg.Brokers, base) },
			func(sc sarama.Client) { _ = sc.Close() })
		if err == nil {
			return &Client{cfg: cfg, base: base, sarama: sc, leaders: map[topicPartition]string{}}, nil
		}
		cfg.retrying("connect to kafka", err)
		select {
		case <-silence.C: // once
			cfg.Log.Warn("kafka does not answer; waiting for it", "brokers", strings.Join(cfg.Brokers, ", "), "error", err)
		default:
		}
		if !pause.wait(ctx, time.Time{}) {
			return nil, fmt.Errorf("connect to kafka at %s: %w (last attempt: %w): start Kafka there or set KAFKA_BROKERS to where it runs",
				strings.Join(cfg.Brokers, ", "), ctx.Err(), err)
		}
	}
}

// Close closes the client's own connections. Close producers and readers first.
func (c *Client) Close() error {
	if err := c.sarama.Close(); err != nil && !errors.Is(err, sarama.ErrClosedClient) {
		return fmt.Errorf("close kafka client: %w", err)
	}
	return nil
}

// Healthy asks a broker for the cluster's controller, past every cache.
func (c *Client) Healthy(ctx context.Context) error {
	_, err := call(ctx, c.sarama.RefreshController)
	if err != nil {
		return fmt.Errorf("ask kafka at %s for its controller: %w", strings.Join(c.cfg.Brokers, ", "), err)
	}
	return nil
}

// Watermark asks the partition's leader for its oldest offset and for the offset
// that the next committed record gets. While there is no leader to ask, as right
// after a topic was made or a broker went, it tries again for Config.RetryFor.
func (c *Client) Watermark(ctx context.Context, topic string, partition int32) (oldest, next int64, err error) {
	type ends struct{ oldest, next int64 }
	var pause backoff
	deadline := time.Now().Add(c.cfg.RetryFor)
	for {
		e, err := call(ctx, func() (e ends, err error) {
			if e.oldest, err = c.sarama.GetOffset(topic, partition, sarama.OffsetOldest); err != nil {
				return e, err
			}
			e.next, err = c.sarama.GetOffset(topic, partition, sarama.OffsetNewest)
			return e, err
		})
		if err == nil {
			return e.oldest, e.next, nil
		}
		err = fmt.Errorf("read watermark of topic %s partition %d: %w", topic, partition, err)
		if !leaderless(err) || !pause.wait(ctx, deadline) {
			return 0, 0, err
		}
		c.cfg.retrying("read watermark", err)
		_, _ = call(ctx, func() (struct{}, error) { return struct{}{}, c.sarama.RefreshMetadata(topic) }) // the next attempt tells
	}
}

// leaderless tells whether an error says that the partition's leader is not known or not ready yet.
func leaderless(err error) bool {
	for _, passing := range []sarama.KError{
		sarama.ErrNotLeaderForPartition, sarama.ErrLeaderNotAvailable, sarama.ErrReplicaNotAvailable, sarama.ErrOffsetNotAvailable,
		sarama.ErrBrokerNotAvailable, sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// Partitions returns how many partitions the topic has.
func (c *Client) Partitions(ctx context.Context, topic string) (int32, error) {
	ids, err := call(ctx, func() ([]int32, error) { return c.sarama.Partitions(topic) })
	if err != nil {
		return 0, fmt.Errorf("read partitions of topic %s: %w", topic, err)
	}
	return int32(len(ids)), nil
}

// leader returns the address of the partition's leader, from the cache if it is there.
func (c *Client) leader(ctx context.Context, tp topicPartition) (string, error) {
	c.mu.RLock()
	addr := c.leaders[tp]
	c.mu.RUnlock()
	if addr != "" {
		return addr, nil
	}
	addr, err := call(ctx, func() (string, error) {
		if err := c.sarama.RefreshMetadata(tp.topic); err != nil && !errors.Is(err, sarama.ErrLeaderNotAvailable) {
			return "", err
		}
		b, err := c.sarama.Leader(tp.topic, tp.partition)
		if err != nil {
			return "", err
		}
		return b.Addr(), nil
	})
	if err != nil {
		return "", fmt.Errorf("find leader of topic %s partition %d: %w", tp.topic, tp.partition, err)
	}
	c.mu.Lock()
	c.leaders[tp] = addr
	c.mu.Unlock()
	return addr, nil
}

// forget makes the next leader ask the cluster.
func (c *Client) forget(tp topicPartition) {
	c.mu.Lock()
	delete(c.leaders, tp)
	c.mu.Unlock()
}

// call runs f, which takes no context, and returns when it does or ctx is done.
func call[T any](ctx context.Context, f func() (T, error)) (T, error) {
	return callLate(ctx, f, nil)
}

// callLate is call with something to do with a result that comes too late.
func callLate[T any](ctx context.Context, f func() (T, error), late func(T)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var zero T
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	ch := make(chan result, 1)
	go func() {
		v, err := f()
		ch <- result{v, err}
	}()
	select {
	case r := <-ch:
		return r.v, r.err
	case <-ctx.Done():
		if late != nil {
			go func() {
				if r := <-ch; r.err == nil {
					late(r.v)
				}
			}()
		}
		return zero, ctx.Err()
	}
}
