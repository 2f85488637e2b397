package app

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/config"
	"github.com/exesdb/exesdb/shared/runtime"
)

func settings(t *testing.T) *Config {
	t.Helper()
	cfg := &Config{}
	if err := config.Defaults(cfg); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestDefaultsAreValid(t *testing.T) {
	cfg := settings(t)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if cfg.HTTPAddr != "127.0.0.1:8080" || cfg.GRPCAddr != "127.0.0.1:9090" || cfg.WriteTimeout != 10*time.Second {
		t.Fatalf("defaults %+v", cfg)
	}
}

func TestValidateNamesTheFlag(t *testing.T) {
	for flag, spoil := range map[string]func(*Config){
		"--http-addr":       func(c *Config) { c.HTTPAddr = "x" },
		"--grpc-addr":       func(c *Config) { c.GRPCAddr = "" },
		"--write-timeout":   func(c *Config) { c.WriteTimeout = 0 },
		"--max-writes":      func(c *Config) { c.MaxWrites = 0 },
		"--max-write-bytes": func(c *Config) { c.MaxWriteBytes = 7 << 20 },
		"--max-event-bytes": func(c *Config) { c.MaxEventBytes = 5 << 20 },
		"--shards":          func(c *Config) { c.Shards = 0 },
	} {
		cfg := settings(t)
		spoil(cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// start runs a gateway without the rest of the system.
func start(ctx context.Context, t *testing.T, cfg *Config) (*runtime.Instance, <-chan error) {
	t.Helper()
	instance, err := runtime.Open(ctx, registry.Gateway, cfg.Shared())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- instance.Run(ctx, func(ctx context.Context) error { return Run(ctx, instance, cfg) })
	}()
	return instance, ended
}

// Alone the gateway serves, says what is missing, and stops cleanly.
func TestGatewayAlone(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	cfg := settings(t)
	cfg.KafkaBrokers, cfg.AdminAddr, cfg.HTTPAddr, cfg.GRPCAddr = cluster.ListenAddrs(), "127.0.0.1:0", free(), free()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	instance, ended := start(ctx, t, cfg)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ready, waiting := instance.IsReady(); !ready; ready, waiting = instance.IsReady() {
		select {
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		case <-tick.C:
		case <-time.After(20 * time.Second):
			t.Fatalf("still waiting for %s", waiting)
		}
	}
	get := func(path string) (int, string) {
		res, err := http.Get("http://" + cfg.HTTPAddr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	if code, body := get("/v1/streams"); code != 503 || !strings.Contains(body, "persistence: not heard") {
		t.Errorf("not ready: %d %s", code, body)
	}
	if code, body := get("/v1/system"); code != 200 || !strings.Contains(body, `"ready":false`) {
		t.Errorf("system: %d %s", code, body)
	}
	if code, body := get("/openapi.json"); code != 200 || !json.Valid([]byte(body)) {
		t.Errorf("openapi: %d", code)
	}
	// A second one on the same port says which flag mends it.
	other := *cfg
	other.Node = "gateway-1"
	_, second := start(ctx, t, &other)
	if err := <-second; err == nil || !strings.Contains(err.Error(), "--http-addr") {
		t.Errorf("port in use: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("stop: %v", err)
	}
}
