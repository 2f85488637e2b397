package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"
)

// OffsetNewest and OffsetOldest ask for the end and the start of a partition.
const (
	OffsetNewest int64 = sarama.OffsetNewest
	OffsetOldest int64 = sarama.OffsetOldest
)

// DefaultVersion is the protocol level that both the embedded broker and Apache Kafka
// 4.x take. Each request's version is negotiated below it.
const DefaultVersion = "3.6.0"

// maxRequestBytes bounds one request that carries several batches. Brokers take 100
// MiB by default (socket.request.max.bytes).
const maxRequestBytes = 32 << 20

func init() {
	// A dozen locked histograms per request would cost more than the request's own
	// bookkeeping; the services measure where it means something.
	metrics.UseNilMetrics = true
	sarama.MaxRequestSize = max(sarama.MaxRequestSize, maxRequestBytes+MaxMessageBytes)
	sarama.MaxResponseSize = max(sarama.MaxResponseSize, 128<<20)
}

// Config says how to reach Kafka. The zero value of every field but Brokers is good.
type Config struct {
	// Brokers are the bootstrap addresses, host:port.
	Brokers []string
	// ClientID is shown in the brokers' logs. Default: exesdb.
	ClientID string
	// Version is the highest protocol level to speak. Default: DefaultVersion.
	Version string
	// DialTimeout bounds the making of one connection. Default: 3 s.
	DialTimeout time.Duration
	// RequestTimeout is how long a broker may wait for its replicas, and how long we
	// wait for its answer (one second more). Default: 5 s.
	RequestTimeout time.Duration
	// RetryFor is how long a producer's call keeps trying. It must outlast the
	// failover of a broker. Default: 30 s.
	RetryFor time.Duration
	// ReplicationFactor of new topics. Default: 3 where there are three brokers, else 1.
	ReplicationFactor int16
	// TLS is used if set.
	TLS *tls.Config
	// Dial makes the connections; tests put faults here. Default: TCP without delay.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Log gets a line for every retry, at debug. Default: none.
	Log *slog.Logger
	// OnRetry is told of every failed attempt that is tried again; op names what was
	// attempted. It must not block.
	OnRetry func(op string, err error)
}

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, errors.New("kafka brokers: want at least one host:port (KAFKA_BROKERS)"))
	}
	for _, b := range c.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			errs = append(errs, fmt.Errorf("kafka broker %q: want host:port: %w", b, err))
		}
	}
	if c.Version != "" {
		if v, err := sarama.ParseKafkaVersion(c.Version); err != nil {
			errs = append(errs, fmt.Errorf("kafka version %q: %w", c.Version, err))
		} else if !v.IsAtLeast(sarama.V2_8_0_0) {
			errs = append(errs, fmt.Errorf("kafka version %q: want 2.8.0 or later", c.Version))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"dial timeout", c.DialTimeout}, {"request timeout", c.RequestTimeout}, {"retry for", c.RetryFor}} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("kafka %s %v: want 0 (the default) or more", d.name, d.value))
		}
	}
	if c.ReplicationFactor < 0 {
		errs = append(errs, fmt.Errorf("kafka replication factor %d: want 0 (by the number of brokers) or more", c.ReplicationFactor))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.ClientID == "" {
		c.ClientID = "exesdb"
	}
	if c.Version == "" {
		c.Version = DefaultVersion
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = 3 * time.Second
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = 5 * time.Second
	}
	if c.RetryFor == 0 {
		c.RetryFor = 30 * time.Second
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: c.DialTimeout, KeepAlive: 15 * time.Second}).DialContext
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// sarama is the configuration of the low-level client and of every connection.
// Retries are ours: sarama's take no context.
func (c Config) sarama() (*sarama.Config, error) {
	v, err := sarama.ParseKafkaVersion(c.Version)
	if err != nil {
		return nil, fmt.Errorf("kafka version %q: %w", c.Version, err)
	}
	s := sarama.NewConfig()
	s.Version = v
	s.ClientID = c.ClientID
	s.ChannelBufferSize = 16
	s.Net.DialTimeout = c.DialTimeout
	s.Net.ReadTimeout = c.RequestTimeout + time.Second
	s.Net.WriteTimeout = c.RequestTimeout + time.Second
	s.Net.MaxOpenRequests = 64
	s.Net.Proxy.Enable = true
	s.Net.Proxy.Dialer = dialer(c.Dial)
	if c.TLS != nil {
		s.Net.TLS.Enable, s.Net.TLS.Config = true, c.TLS
	}
	s.Metadata.Full = true
	s.Metadata.SingleFlight = true
	s.Metadata.AllowAutoTopicCreation = false
	s.Metadata.Retry.Max = 0
	s.Metadata.Retry.Backoff = 0
	s.Admin.Timeout = c.RequestTimeout
	s.Producer.MaxMessageBytes = MaxMessageBytes
	s.Consumer.IsolationLevel = sarama.ReadCommitted
	return s, nil
}

// retrying tells whoever listens that op failed and is tried again.
func (c Config) retrying(op string, err error) {
	if c.OnRetry != nil {
		c.OnRetry(op, err)
	}
	c.Log.Debug("kafka attempt failed, trying again", "op", op, "err", err)
}

// dialer makes the hook a golang.org/x/net/proxy.Dialer, which is what sarama takes.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// Dial implements proxy.Dialer.
func (d dialer) Dial(network, addr string) (net.Conn, error) {
	return d(context.Background(), network, addr)
}
