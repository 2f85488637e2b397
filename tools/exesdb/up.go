package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/config"
	"github.com/exesdb/exesdb/shared/runtime"
	"github.com/exesdb/exesdb/shared/version"
	"github.com/exesdb/exesdb/tools/embedded"

	cluster "github.com/exesdb/exesdb/services/cluster/app"
	controlplane "github.com/exesdb/exesdb/services/controlplane/app"
	gateway "github.com/exesdb/exesdb/services/gateway/app"
	notification "github.com/exesdb/exesdb/services/notification/app"
	persistence "github.com/exesdb/exesdb/services/persistence/app"
	store "github.com/exesdb/exesdb/services/store/app"
)

// embeddedTopicBytes bounds each topic of the embedded broker, which loads its
// whole log at start; the store keeps everything.
const embeddedTopicBytes = 64 << 20

// upCommand runs the whole store in one process.
type upCommand struct {
	HTTPAddr  string `name:"http-addr" env:"EXESDB_HTTP_ADDR" default:"127.0.0.1:8080" help:"REST address."`
	GRPCAddr  string `name:"grpc-addr" env:"EXESDB_GRPC_ADDR" default:"127.0.0.1:9090" help:"gRPC address."`
	KafkaAddr string `name:"kafka-addr" env:"EXESDB_KAFKA_ADDR" default:"127.0.0.1:9092" help:"Address of the embedded broker."`
	RedisBind string `name:"redis-bind" env:"EXESDB_REDIS_ADDR" default:"127.0.0.1:6379" help:"Address of the embedded Redis."`
	DataDir   string `name:"data-dir" env:"EXESDB_DATA_DIR" default:"./data" help:"Where the store and the embedded broker keep their files."`
	StoreID   string `name:"store-id" env:"EXESDB_STORE_ID" default:"exesdb" help:"Name of the store; the prefix of its topics."`
	Shards    int32  `name:"shards" env:"EXESDB_SHARDS" default:"1" help:"Partitions of the log; fixed when the store is created."`
	Kafka     string `name:"kafka-brokers" env:"KAFKA_BROKERS" help:"Use this Kafka (comma-separated) instead of the embedded broker."`
	Redis     string `name:"redis-addr" env:"REDIS_ADDR" help:"Use this Redis instead of the embedded one."`
	AdminAddr string `name:"admin-addr" env:"EXESDB_ADMIN_ADDR" default:"127.0.0.1:0" help:"Address of the gateway's /healthz, /readyz and /metrics; the other services take free ports."`
	MinFree   uint64 `name:"min-free-bytes" env:"EXESDB_MIN_FREE_BYTES" default:"0" help:"Free space below which writes stop, in bytes; 0 is 256 MiB or 2% of the disk, whichever is smaller."`
	LogLevel  string `name:"log-level" env:"EXESDB_LOG_LEVEL" default:"warn" enum:"debug,info,warn,error" help:"Least level that is logged (${enum})."`
	LogFormat string `name:"log-format" env:"EXESDB_LOG_FORMAT" default:"text" enum:"text,json" help:"Form of the log (${enum})."`
}

// service is one of the six, ready to be run.
type service struct {
	system registry.System
	run    func(context.Context, *runtime.Instance) error
	common config.Common
}

// Run starts everything and waits for the end.
func (u *upCommand) Run(ctx context.Context) error {
	tuneMemory()
	common, closeEmbedded, err := u.infrastructure()
	if err != nil {
		return err
	}
	defer closeEmbedded()
	services, err := u.services(common)
	if err != nil {
		return err
	}
	if err := u.repair(ctx, common); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range services {
		g.Go(func() error {
			instance, err := runtime.Open(gctx, s.system, s.common)
			if err != nil {
				return fmt.Errorf("start %s: %w", s.system, err)
			}
			return instance.Run(gctx, func(ctx context.Context) error { return s.run(ctx, instance) })
		})
	}
	g.Go(func() error { return u.welcome(gctx, common) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "stopped; your events are in "+u.DataDir)
	return nil
}

// tuneMemory trades memory for fewer collections, below a bound that is kept;
// GOGC and GOMEMLIMIT in the environment win.
func tuneMemory() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(400)
		debug.SetMemoryLimit(400 << 20)
	}
}

// infrastructure starts the broker and Redis that were not given.
func (u *upCommand) infrastructure() (config.Common, func(), error) {
	common := config.Common{
		StoreID: u.StoreID, Shards: u.Shards, AdminAddr: "127.0.0.1:0", Heartbeat: 500 * time.Millisecond,
		LeaseTTL: 2 * time.Second, LogLevel: u.LogLevel, LogFormat: u.LogFormat,
	}
	var closers []func()
	closeAll := func() {
		for _, c := range closers {
			c()
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	if u.Kafka != "" {
		common.KafkaBrokers = strings.Split(u.Kafka, ",")
	} else {
		broker, err := embedded.StartBroker(embedded.BrokerOptions{Addr: u.KafkaAddr, Dir: filepath.Join(u.DataDir, "broker"), Logger: log})
		if err != nil {
			return common, nil, err
		}
		common.KafkaBrokers, common.TopicBytes = []string{broker.Addr()}, embeddedTopicBytes
		closers = append(closers, func() {
			if err := broker.Close(); err != nil {
				log.Error("close the embedded broker", "error", err)
			}
		})
	}
	if u.Redis != "" {
		common.RedisAddr = u.Redis
	} else {
		redis, err := embedded.StartRedis(u.RedisBind)
		if err != nil {
			closeAll()
			return common, nil, err
		}
		common.RedisAddr = redis.Addr()
		closers = append(closers, redis.Close)
	}
	return common, closeAll, nil
}

// services configures the six, with their defaults and environment.
func (u *upCommand) services(common config.Common) ([]service, error) {
	p, s, n, c, cp, g := &persistence.Config{}, &store.Config{}, &notification.Config{}, &cluster.Config{}, &controlplane.Config{}, &gateway.Config{}
	for _, cfg := range []any{p, s, n, c, cp, g} {
		if err := config.Defaults(cfg); err != nil {
			return nil, err
		}
	}
	p.DataDir, p.MinFreeBytes = filepath.Join(u.DataDir, "store"), u.MinFree
	g.HTTPAddr, g.GRPCAddr = u.HTTPAddr, u.GRPCAddr
	for _, cfg := range []*config.Common{&p.Common, &s.Common, &n.Common, &c.Common, &cp.Common, &g.Common} {
		*cfg = common
	}
	g.AdminAddr = u.AdminAddr
	if err := errors.Join(p.Validate(), s.Validate(), n.Validate(), c.Validate(), cp.Validate(), g.Validate()); err != nil {
		return nil, fmt.Errorf("bad configuration:\n%w", err)
	}
	return []service{
		{registry.ControlPlane, func(ctx context.Context, i *runtime.Instance) error { return controlplane.Run(ctx, i, cp) }, cp.Common},
		{registry.Persistence, func(ctx context.Context, i *runtime.Instance) error { return persistence.Run(ctx, i, p) }, p.Common},
		{registry.Store, func(ctx context.Context, i *runtime.Instance) error { return store.Run(ctx, i, s) }, s.Common},
		{registry.Notification, func(ctx context.Context, i *runtime.Instance) error { return notification.Run(ctx, i, n) }, n.Common},
		{registry.Cluster, func(ctx context.Context, i *runtime.Instance) error { return cluster.Run(ctx, i, c) }, c.Common},
		{registry.Gateway, func(ctx context.Context, i *runtime.Instance) error { return gateway.Run(ctx, i, g) }, g.Common},
	}, nil
}

// welcome waits until the system is ready and says what to do next.
func (u *upCommand) welcome(ctx context.Context, common config.Common) error {
	began := time.Now()
	if err := awaitReady(ctx, "http://"+u.HTTPAddr); err != nil {
		return nil //nolint:nilerr // stopped before it was ready: the service that failed says why
	}
	fmt.Printf(`
  ExESDB %s is ready after %v.

    REST    http://%s        gRPC   %s
    Kafka   %s               Redis  %s
    data    %s (store %q, %d shard(s))

  Try:
    curl -s http://%s/v1/streams/order-1/events \
      -d '{"expected_version":-1,"events":[{"event_type":"OrderPlaced","data":{"total":42}}]}'
    curl -s http://%s/v1/streams/order-1/events
    curl -N http://%s/v1/subscribe -H 'Accept: text/event-stream'

  Ctrl-C stops it; the data stays.

`, version.String(), time.Since(began).Round(time.Millisecond), u.HTTPAddr, u.GRPCAddr,
		strings.Join(common.KafkaBrokers, ","), common.RedisAddr, u.DataDir, common.StoreID, common.Shards,
		u.HTTPAddr, u.HTTPAddr, u.HTTPAddr)
	return nil
}

// awaitReady asks the gateway until the system is ready.
func awaitReady(ctx context.Context, url string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ready, err := systemReady(ctx, url)
		if err == nil && ready {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func systemReady(ctx context.Context, url string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/system", nil)
	if err != nil {
		return false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	var system struct {
		Ready bool `json:"ready"`
	}
	err = json.NewDecoder(resp.Body).Decode(&system)
	return system.Ready, err
}
