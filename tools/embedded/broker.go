package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

const (
	// MaxMessageBytes bounds one batch: 8 MiB of payload and room for keys and headers.
	MaxMessageBytes = 8<<20 + 64<<10

	// segmentBytes is small because a segment is the unit in which the disk, and the memory that a start
	// needs, are given back.
	segmentBytes = 16 << 20

	// sweepEvery is how often retention is applied. It bounds by how much a topic overshoots its
	// retention.bytes: five seconds of writing.
	sweepEvery = 5 * time.Second
)

// BrokerOptions says where the broker listens and keeps its log.
type BrokerOptions struct {
	// Addr is the host:port to listen on and to hand to clients; port 0 takes a free one. The default is
	// 127.0.0.1:9092.
	Addr string
	// AddrFlag names the flag that Addr came from, for the error that says that the port is in use. The
	// default is --kafka-addr.
	AddrFlag string
	// Dir keeps the log; with none, it is in memory and ends with the broker.
	Dir string
	// DirFlag names the flag that Dir came from. The default is --data-dir.
	DirFlag string
	// Logger gets the broker's warnings; with none they are dropped.
	Logger *slog.Logger
	// Faults makes Inject work for connections too, for tests.
	Faults bool
}

// Broker is a Kafka-protocol broker in this process: one node, no automatic topic creation.
type Broker struct {
	cluster *kfake.Cluster
	addr    string
	dir     string
	lock    *os.File
	log     *slog.Logger

	stop  context.CancelFunc
	swept sync.WaitGroup

	// compactedSize is what the compacted partitions weighed after the last compaction; only sweep uses it.
	compactedSize int64
	// ends is what end_offsets.json holds, so that an idle broker writes nothing; only sweep uses it.
	ends endOffsets

	closing sync.Once

	// For tests: connections that may be dropped, nil without BrokerOptions.Faults; and a second node.
	drops     *drops
	second    sync.Once
	secondErr error
}

// StartBroker opens the log in o.Dir, however it was left, and listens on o.Addr. A port or a directory in use is an
// error of one line that names the flag to change.
func StartBroker(o BrokerOptions) (*Broker, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:9092"
	}
	if o.AddrFlag == "" {
		o.AddrFlag = "--kafka-addr"
	}
	if o.DirFlag == "" {
		o.DirFlag = "--data-dir"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}

	port, err := checkAddr(o)
	if err != nil {
		return nil, err
	}
	b := &Broker{dir: o.Dir, log: o.Logger}
	if o.Faults {
		b.drops = &drops{all: map[*drop]bool{}}
	}
	opts := []kfake.Opt{
		kfake.Ports(port),
		kfake.ListenFn(b.listener(o)),
		kfake.WithLogger(kfakeLogger{o.Logger}),
		kfake.GroupMinSessionTimeout(500 * time.Millisecond),
	}
	configs := map[string]string{
		"message.max.bytes":                    strconv.Itoa(MaxMessageBytes),
		"log.segment.bytes":                    strconv.Itoa(segmentBytes),
		"log.message.timestamp.type":           "LogAppendTime",
		"log.retention.ms":                     "-1",
		"log.cleaner.backoff.ms":               strconv.FormatInt(sweepEvery.Milliseconds(), 10),
		"group.consumer.session.timeout.ms":    "3000",
		"group.consumer.heartbeat.interval.ms": "500",
	}
	if o.Dir != "" {
		if b.lock, err = lockDir(o.Dir, o.DirFlag); err != nil {
			return nil, err
		}
		if err := errors.Join(finishCompaction(o.Dir), plantEnds(o.Dir)); err != nil {
			return nil, errors.Join(fmt.Errorf("repair broker log in %s: %w", o.Dir, err), b.lock.Close())
		}
		// Once in ten years is never: the sweep does the cleaner's work, safely.
		configs["log.cleaner.backoff.ms"] = strconv.FormatInt((10 * 365 * 24 * time.Hour).Milliseconds(), 10)
		opts = append(opts, kfake.DataDir(o.Dir))
	}
	if b.cluster, err = kfake.NewCluster(append(opts, kfake.BrokerConfigs(configs))...); err != nil {
		if b.lock != nil {
			err = errors.Join(err, b.lock.Close())
		}
		return nil, err
	}
	b.addr = b.cluster.ListenAddrs()[0]
	if o.Dir != "" {
		if err := b.dropPlanted(); err != nil {
			b.cluster.Close()
			return nil, errors.Join(fmt.Errorf("repair broker log in %s: %w", o.Dir, err), b.lock.Close())
		}
	}

	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	if o.Dir != "" {
		b.swept.Go(func() { b.sweepUntil(ctx, sweepEvery) })
	}
	return b, nil
}

// Addr is the host:port that the broker listens on.
func (b *Broker) Addr() string { return b.addr }

// Close stops listening and writes down what a later start needs to be quick.
func (b *Broker) Close() error {
	var err error
	b.closing.Do(func() {
		b.stop()
		b.swept.Wait()
		b.cluster.Close()
		if b.lock != nil {
			err = b.lock.Close()
		}
	})
	return err
}

// checkAddr refuses an address that clients could not dial: it is also what the broker hands out.
func checkAddr(o BrokerOptions) (port int, err error) {
	host, p, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return 0, fmt.Errorf("%s %q: want host:port", o.AddrFlag, o.Addr)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		return 0, fmt.Errorf("%s %s: name one address, for the broker hands it to its clients", o.AddrFlag, o.Addr)
	}
	if port, err = strconv.Atoi(p); err != nil || port < 0 || port > 65535 {
		return 0, fmt.Errorf("%s %q: want a port from 0 to 65535", o.AddrFlag, o.Addr)
	}
	return port, nil
}

// listener listens on o.Addr first, and for nodes that are added, wherever kfake says.
func (b *Broker) listener(o BrokerOptions) func(network, addr string) (net.Listener, error) {
	first := true
	return func(network, addr string) (ln net.Listener, err error) {
		if first {
			first = false
			ln, err = listen(o)
		} else {
			ln, err = net.Listen(network, addr)
		}
		if err == nil && b.drops != nil {
			ln = faultyListener{ln, b.drops}
		}
		return ln, err
	}
}

func listen(o BrokerOptions) (net.Listener, error) {
	ln, err := net.Listen("tcp", o.Addr)
	return ln, portInUse(err, o.Addr, o.AddrFlag)
}

// portInUse says which flag moves a listener whose port is taken, and leaves other errors as they are.
func portInUse(err error, addr, flag string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s %s: port in use; stop what listens there or choose another with %s", flag, addr, flag)
	}
	return err
}

// kfakeLogger passes on what an operator may act on; the broker's account of every request is left out.
type kfakeLogger struct{ log *slog.Logger }

// Logf is kfake's logging hook.
func (l kfakeLogger) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.log.Error("embedded broker: " + fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		l.log.Warn("embedded broker: " + fmt.Sprintf(format, args...))
	case kfake.LogLevelNone, kfake.LogLevelInfo, kfake.LogLevelDebug:
	}
}
