package bus

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/IBM/sarama"
)

// conn is one connection to one broker, with one user. sarama.Broker holds its lock
// while it waits for an answer, so it cannot be closed meanwhile; conn keeps the
// socket and closes that.
type conn struct {
	addr   string
	broker *sarama.Broker
	cancel context.CancelFunc // of the dial

	ready chan struct{} // closed when the connection is made or has failed
	err   error         // why it failed; read after ready

	mu     sync.Mutex
	socket net.Conn
	dead   bool
}

// open starts to make a connection; wait on its ready.
func (c *Client) open(addr string) *conn {
	ctx, cancel := context.WithCancel(context.Background())
	k := &conn{addr: addr, broker: sarama.NewBroker(addr), cancel: cancel, ready: make(chan struct{})}
	conf := *c.base
	conf.Net.Proxy.Dialer = dialer(func(_ context.Context, network, addr string) (net.Conn, error) {
		dctx, stop := context.WithTimeout(ctx, c.cfg.DialTimeout)
		defer stop()
		s, err := c.cfg.Dial(dctx, network, addr)
		if err != nil {
			return nil, err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.dead {
			_ = s.Close()
			return nil, net.ErrClosed
		}
		k.socket = s
		return s, nil
	})
	go func() {
		defer close(k.ready)
		if err := k.broker.Open(&conf); err != nil {
			k.err = fmt.Errorf("connect to %s: %w", addr, err)
			return
		}
		if ok, err := k.broker.Connected(); !ok {
			if err == nil {
				err = sarama.ErrNotConnected
			}
			k.err = fmt.Errorf("connect to %s: %w", addr, err)
		}
	}()
	return k
}

// await returns when the connection is made, has failed, or ctx is done.
func (k *conn) await(ctx context.Context) error {
	select {
	case <-k.ready:
		return k.err
	default:
	}
	select {
	case <-k.ready:
		return k.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill closes the socket now and the rest behind; whoever waits for an answer gets
// an error. It may be called more than once.
func (k *conn) kill() {
	k.mu.Lock()
	if k.dead {
		k.mu.Unlock()
		return
	}
	k.dead = true
	s := k.socket
	k.mu.Unlock()
	k.cancel()
	if s != nil {
		_ = s.Close()
	}
	go func() {
		<-k.ready
		_ = k.broker.Close()
	}()
}
