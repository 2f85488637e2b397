// Package app wires the gateway.
package app

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/exesdb/exesdb/services/gateway/core"
	"github.com/exesdb/exesdb/shared/config"
)

// Config of the gateway. The struct tags are kong's.
type Config struct {
	config.Common  `embed:""`
	HTTPAddr       string        `name:"http-addr" env:"EXESDB_HTTP_ADDR" default:"127.0.0.1:8080" help:"Address of the REST API."`
	GRPCAddr       string        `name:"grpc-addr" env:"EXESDB_GRPC_ADDR" default:"127.0.0.1:9090" help:"Address of the gRPC API."`
	Token          string        `name:"token" env:"EXESDB_TOKEN" help:"Bearer token that every call must have (default: none)."`
	WriteTimeout   time.Duration `name:"write-timeout" env:"EXESDB_WRITE_TIMEOUT" default:"10s" help:"Longest wait for the outcome of a write; then it is unknown."`
	ReadTimeout    time.Duration `name:"read-timeout" env:"EXESDB_READ_TIMEOUT" default:"10s" help:"Longest wait for a page of a read."`
	HedgeAfter     time.Duration `name:"hedge-after" env:"EXESDB_HEDGE_AFTER" default:"1s" help:"Wait for a page before another replica is asked too."`
	DrainTimeout   time.Duration `name:"drain-timeout" env:"EXESDB_DRAIN_TIMEOUT" default:"5s" help:"Longest wait for requests in flight when the gateway stops."`
	MaxWrites      int           `name:"max-writes" env:"EXESDB_MAX_WRITES" default:"16384" help:"Most writes in flight; more get 429."`
	MaxReads       int           `name:"max-reads" env:"EXESDB_MAX_READS" default:"4096" help:"Most page reads in flight; more get 429."`
	MaxEventBytes  int           `name:"max-event-bytes" env:"EXESDB_MAX_EVENT_BYTES" default:"1048576" help:"Largest event in bytes."`
	MaxWriteBytes  int           `name:"max-write-bytes" env:"EXESDB_MAX_WRITE_BYTES" default:"4194304" help:"Largest write in bytes."`
	MaxWriteEvents int           `name:"max-write-events" env:"EXESDB_MAX_WRITE_EVENTS" default:"1000" help:"Most events of one write."`
}

// Subscriptions hear a heartbeat this often.
const subscriptionHeartbeat = 10 * time.Second

// bodyFactor is how much larger than a write its JSON may be: base64 and escapes.
const bodyFactor = 2

// Validate reports everything that is wrong, each with the flag that mends it.
func (c *Config) Validate() error {
	errs := []error{c.Common.Validate()}
	for _, a := range []struct{ flag, addr string }{{"--http-addr", c.HTTPAddr}, {"--grpc-addr", c.GRPCAddr}} {
		if _, _, err := net.SplitHostPort(a.addr); err != nil {
			errs = append(errs, fmt.Errorf("%s %q: want host:port: %w", a.flag, a.addr, err))
		}
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"--write-timeout", c.WriteTimeout}, {"--read-timeout", c.ReadTimeout},
		{"--hedge-after", c.HedgeAfter}, {"--drain-timeout", c.DrainTimeout},
	} {
		if d.value < time.Millisecond {
			errs = append(errs, fmt.Errorf("%s %v: want 1ms or more", d.flag, d.value))
		}
	}
	for _, n := range []struct {
		flag        string
		value, most int
	}{
		{"--max-writes", c.MaxWrites, 1 << 20}, {"--max-reads", c.MaxReads, 1 << 20},
		{"--max-event-bytes", c.MaxEventBytes, c.MaxWriteBytes},
		{"--max-write-bytes", c.MaxWriteBytes, 6 << 20}, // a Kafka record holds 8 MiB
		{"--max-write-events", c.MaxWriteEvents, 10000},
	} {
		if n.value < 1 || n.value > n.most {
			errs = append(errs, fmt.Errorf("%s %d: want 1 to %d", n.flag, n.value, n.most))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) limits() core.Limits {
	l := core.DefaultLimits()
	l.EventBytes, l.WriteBytes, l.WriteEvents = c.MaxEventBytes, c.MaxWriteBytes, c.MaxWriteEvents
	return l
}
