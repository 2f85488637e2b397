package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/exesdb/exesdb/contracts"
	"github.com/exesdb/exesdb/services/gateway/api"
	"github.com/exesdb/exesdb/services/gateway/backend"
	"github.com/exesdb/exesdb/shared/bus"
	"github.com/exesdb/exesdb/shared/runtime"
	"github.com/exesdb/exesdb/shared/shard"
)

// Run serves the API until ctx is done; then it takes nothing more, finishes what
// is in flight within the drain timeout, and stops.
func Run(ctx context.Context, instance *runtime.Instance, cfg *Config) error {
	instance.NotReady("acknowledgements")
	router, err := instance.Control()
	if err != nil {
		return err
	}
	view, err := instance.NewView(router)
	if err != nil {
		return err
	}
	instance.SetGate(view.Ready)
	// The bus must outlive the servers, so it does not end with ctx.
	busCtx, stopBus := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBus()
	g, gctx := errgroup.WithContext(busCtx)
	g.Go(func() error { return router.Run(gctx) })

	producer := bus.NewProducer(instance.Client)
	store, err := backend.Open(ctx, backendOptions(instance, cfg, producer, view))
	if err != nil {
		stopBus()
		return errors.Join(err, ended(g.Wait()), producer.Close())
	}
	g.Go(func() error { return store.Run(gctx) })

	service := api.NewService(api.Options{
		Backend: store, Gate: view, System: view, Shards: cfg.Shards, Limits: cfg.limits(),
		BodyBytes: int64(bodyFactor * cfg.MaxWriteBytes), WriteTimeout: cfg.WriteTimeout, ReadTimeout: cfg.ReadTimeout,
		Heartbeat: subscriptionHeartbeat, Token: cfg.Token, Log: instance.Log,
	})
	edge, err := listen(ctx, service, cfg, instance.Log)
	if err != nil {
		stopBus()
		return errors.Join(err, ended(g.Wait()), producer.Close())
	}
	g.Go(func() error { return edge.serve(gctx) })
	instance.Ready("rest", "grpc")

	select {
	case <-ctx.Done():
	case <-gctx.Done(): // one of them failed
	}
	instance.NotReady("shutdown")
	edge.stop(service, cfg.DrainTimeout)
	stopBus()
	return errors.Join(ended(g.Wait()), producer.Close())
}

// ended is the error of a group that was told to end.
func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func backendOptions(instance *runtime.Instance, cfg *Config, producer *bus.Producer, view *runtime.View) backend.Options {
	node := instance.Node()
	return backend.Options{
		Producer: producer, Record: instance.Record, Topic: instance.Topic, Shards: cfg.Shards,
		OpenReader: backend.FromEnd(instance.Client),
		// Unique to this start, so that no answer to a former one is taken for ours.
		Address:        node + "/" + strconv.FormatInt(time.Now().UnixNano(), 36),
		ReplyPartition: shard.Of(node, cfg.Shards),
		Replicas:       func(in int32) []string { return backend.CaughtUp(view.System(), in) },
		Writes:         cfg.MaxWrites, Reads: cfg.MaxReads, HedgeAfter: cfg.HedgeAfter,
		Log: instance.Log, Metrics: instance.Metrics,
	}
}

// edge is the two servers.
type edge struct {
	http          *http.Server
	grpc          *grpc.Server
	httpOn, rpcOn net.Listener
}

func listen(ctx context.Context, service *api.Service, cfg *Config, log *slog.Logger) (*edge, error) {
	handler, err := api.NewHTTP(service, openAPI())
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	httpOn, err := lc.Listen(ctx, "tcp", cfg.HTTPAddr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s for REST (--http-addr, EXESDB_HTTP_ADDR): %w", cfg.HTTPAddr, err)
	}
	rpcOn, err := lc.Listen(ctx, "tcp", cfg.GRPCAddr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s for gRPC (--grpc-addr, EXESDB_GRPC_ADDR): %w", cfg.GRPCAddr, err), httpOn.Close())
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &edge{
		http: &http.Server{
			Handler: handler, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
		grpc: api.NewGRPC(service), httpOn: httpOn, rpcOn: rpcOn,
	}, nil
}

func (e *edge) serve(ctx context.Context) error {
	g, _ := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := e.http.Serve(e.httpOn); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve REST: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		if err := e.grpc.Serve(e.rpcOn); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve gRPC: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// stop drains the service and closes the servers; a client that holds a stream
// open without using it does not hold up the stop.
func (e *edge) stop(service *api.Service, within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	_ = service.Drain(ctx) // those that are not done get no answer
	last, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		e.grpc.GracefulStop()
	}()
	if e.http.Shutdown(last) != nil {
		_ = e.http.Close()
	}
	select {
	case <-stopped:
	case <-last.Done():
		e.grpc.Stop()
		<-stopped
	}
}

// openAPI describes the REST API.
func openAPI() []byte { return contracts.OpenAPI }
