// Package config holds the settings that all services share. Each is a flag and
// an environment variable; Validate says what is wrong and which flag mends it.
package config

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Common are the settings of every service. The struct tags are kong's.
type Common struct {
	StoreID      string        `name:"store-id" env:"EXESDB_STORE_ID" default:"exesdb" help:"Name of the store; the prefix of its Kafka topics."`
	Node         string        `name:"node" env:"EXESDB_NODE" help:"Instance id, unique in the store (default: <system>-0)."`
	Shards       int32         `name:"shards" env:"EXESDB_SHARDS" default:"1" help:"Partitions of the log; fixed when the store is created."`
	KafkaBrokers []string      `name:"kafka-brokers" env:"KAFKA_BROKERS" default:"127.0.0.1:9092" help:"Kafka bootstrap addresses."`
	RedisAddr    string        `name:"redis-addr" env:"REDIS_ADDR" default:"127.0.0.1:6379" help:"Redis address, for leases."`
	AdminAddr    string        `name:"admin-addr" env:"EXESDB_ADMIN_ADDR" default:"127.0.0.1:0" help:"Address of /healthz, /readyz and /metrics."`
	Heartbeat    time.Duration `name:"heartbeat" env:"EXESDB_HEARTBEAT" default:"500ms" help:"Time between heartbeats; three missed are a failure."`
	LeaseTTL     time.Duration `name:"lease-ttl" env:"EXESDB_LEASE_TTL" default:"2s" help:"Lifetime of a lease that is not renewed."`
	LogLevel     string        `name:"log-level" env:"EXESDB_LOG_LEVEL" default:"warn" enum:"debug,info,warn,error" help:"Least level that is logged (${enum})."`
	LogFormat    string        `name:"log-format" env:"EXESDB_LOG_FORMAT" default:"text" enum:"text,json" help:"Form of the log (${enum})."`
	// TopicBytes bounds the log and its satellites in bytes per partition; 0 keeps
	// them by time. Only for a broker whose topics are loaded whole at start.
	TopicBytes int64 `name:"topic-bytes" env:"EXESDB_TOPIC_BYTES" default:"0" help:"Bound of each data topic's partition in bytes; 0 is none (for the embedded broker)."`
}

var storeID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// Validate reports everything that is wrong, each with the flag that mends it.
func (c Common) Validate() error {
	var errs []error
	if !storeID.MatchString(c.StoreID) {
		errs = append(errs, fmt.Errorf("--store-id %q: want 1 to 64 letters, digits, '-' or '_', starting with a letter or digit", c.StoreID))
	}
	if c.Shards < 1 || c.Shards > 1024 {
		errs = append(errs, fmt.Errorf("--shards %d: want 1 to 1024", c.Shards))
	}
	if len(c.KafkaBrokers) == 0 {
		errs = append(errs, errors.New("--kafka-brokers: want at least one host:port"))
	}
	if c.RedisAddr == "" {
		errs = append(errs, errors.New("--redis-addr: want host:port"))
	}
	if c.Heartbeat < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("--heartbeat %v: want 10ms or more", c.Heartbeat))
	}
	if c.LeaseTTL < 2*c.Heartbeat {
		errs = append(errs, fmt.Errorf("--lease-ttl %v: want at least twice --heartbeat (%v)", c.LeaseTTL, c.Heartbeat))
	}
	if c.TopicBytes != 0 && c.TopicBytes < 32<<20 {
		errs = append(errs, fmt.Errorf("--topic-bytes %d: want 0 or at least 33554432 (32 MiB), so that nothing is dropped before it is applied", c.TopicBytes))
	}
	return errors.Join(errs...)
}

// Shared are the settings that all services have.
func (c Common) Shared() Common { return c }
