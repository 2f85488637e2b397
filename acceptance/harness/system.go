package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/exesdb/exesdb/contracts/registry"
)

// Options of a system.
type Options struct {
	// Shards; 1 when 0.
	Shards int32
	// Args are added to the command line of `exesdb up`, or of every service.
	Args []string
	// ServiceArgs are added to the command line of one service, by its name.
	ServiceArgs map[registry.System][]string
	// DataDir; a temporary one when empty.
	DataDir string
}

// Running is a running ExESDB, as one process or as one per service.
type Running struct {
	t        testing.TB
	HTTPAddr string
	GRPCAddr string
	Kafka    string
	Redis    string
	StoreID  string
	Shards   int32
	DataDir  string

	REST *REST
	GRPC *GRPC

	// All is the process of `exesdb up`; nil when the services run alone.
	All *Process
	// Services by name, such as store-0; empty for `exesdb up`.
	Services map[string]*Process
	// Broker and Server are the embedded broker's and Redis's own processes; nil for `exesdb up` and on a real Kafka.
	Broker, Server *Process

	admin map[string]string
	// public are the REST and gRPC addresses of the gateways, by node.
	public map[string][2]string
	// brokerControl is where the embedded broker's process takes faults.
	brokerControl string
}

func newRunning(t testing.TB, o Options) *Running {
	t.Helper()
	if o.Shards == 0 {
		o.Shards = 1
	}
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	s := &Running{
		t: t, HTTPAddr: FreeAddr(t), GRPCAddr: FreeAddr(t), StoreID: "exesdb", Shards: o.Shards, DataDir: o.DataDir,
		Services: map[string]*Process{}, admin: map[string]string{}, public: map[string][2]string{},
	}
	if kafka, redis, given := Real(); given {
		s.Kafka, s.Redis, s.StoreID = kafka, redis, uniqueStore(t)
		dropTopics(t, s.Kafka, s.StoreID)
	} else {
		s.Kafka, s.Redis = FreeAddr(t), FreeAddr(t)
	}
	s.REST, s.GRPC = NewREST(s.HTTPAddr), NewGRPC(t, s.GRPCAddr)
	return s
}

func uniqueStore(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, t.Name())
	return fmt.Sprintf("%.40s-%08x", name, rand.Uint32())
}

// Up starts `exesdb up` and waits until it is ready.
func Up(t testing.TB, o Options) *Running {
	t.Helper()
	s := PrepareUp(t, o)
	s.All.Start()
	s.AwaitReady(30 * time.Second)
	return s
}

// PrepareUp is Up without the start.
func PrepareUp(t testing.TB, o Options) *Running {
	t.Helper()
	s := newRunning(t, o)
	s.admin["gateway-0"] = FreeAddr(t)
	args := []string{
		"up", "--http-addr", s.HTTPAddr, "--grpc-addr", s.GRPCAddr, "--data-dir", s.DataDir, "--store-id", s.StoreID,
		"--shards", strconv.Itoa(int(s.Shards)), "--admin-addr", s.admin["gateway-0"],
	}
	if _, _, given := Real(); given {
		args = append(args, "--kafka-brokers", s.Kafka, "--redis-addr", s.Redis)
	} else {
		args = append(args, "--kafka-addr", s.Kafka, "--redis-bind", s.Redis)
	}
	s.All = NewProcess(t, "exesdb", "exesdb", append(args, o.Args...)...)
	return s
}

// Apart starts the broker, Redis and each of the six services as processes of their own, and waits until they are ready.
func Apart(t testing.TB, o Options) *Running {
	t.Helper()
	s := PrepareApart(t, o)
	for _, p := range s.Services {
		p.Start()
	}
	s.AwaitReady(30 * time.Second)
	return s
}

// PrepareApart starts the broker and Redis (the embedded ones, unless a real Kafka is given) and prepares the six services.
func PrepareApart(t testing.TB, o Options) *Running {
	t.Helper()
	s := newRunning(t, o)
	if _, _, given := Real(); !given {
		s.brokerControl = FreeAddr(t)
		s.Broker = NewProcess(t, "kafka", "infra", "-kafka", s.Kafka, "-dir", filepath.Join(s.DataDir, "broker"), "-control", s.brokerControl)
		s.Server = NewProcess(t, "redis", "infra", "-redis", s.Redis)
		s.Broker.Start()
		s.Server.Start()
	}
	for _, system := range registry.All() {
		s.Prepare(system, 0, o)
	}
	return s
}

// Prepare makes the process of one more instance of a service.
func (s *Running) Prepare(system registry.System, n int, o Options) *Process {
	s.t.Helper()
	node := fmt.Sprintf("%s-%d", system, n)
	s.admin[node] = FreeAddr(s.t)
	args := []string{
		"--store-id", s.StoreID, "--node", node, "--shards", strconv.Itoa(int(s.Shards)), "--kafka-brokers", s.Kafka,
		"--redis-addr", s.Redis, "--admin-addr", s.admin[node],
	}
	switch system {
	case registry.Persistence:
		args = append(args, "--data-dir", filepath.Join(s.DataDir, node))
	case registry.Gateway:
		http, grpc := s.HTTPAddr, s.GRPCAddr
		if n > 0 {
			http, grpc = FreeAddr(s.t), FreeAddr(s.t)
		}
		s.public[node] = [2]string{http, grpc}
		args = append(args, "--http-addr", http, "--grpc-addr", grpc)
	case registry.Store, registry.Notification, registry.Cluster, registry.ControlPlane:
	}
	args = append(args, o.Args...)
	p := NewProcess(s.t, node, string(system), append(args, o.ServiceArgs[system]...)...)
	s.Services[node] = p
	return p
}

// Through is the same system with its clients at another gateway.
func (s *Running) Through(node string) *Running {
	s.t.Helper()
	other := *s
	other.HTTPAddr, other.GRPCAddr = s.public[node][0], s.public[node][1]
	other.REST, other.GRPC = NewREST(other.HTTPAddr), NewGRPC(s.t, other.GRPCAddr)
	return &other
}

// AwaitReady waits until GET /v1/system says that the system is ready, and fails when a process ends before.
func (s *Running) AwaitReady(within time.Duration) {
	s.t.Helper()
	Eventually(s.t, within, "the system is ready", func() error {
		if err := s.ended(); err != nil {
			s.t.Fatal(err)
		}
		system, err := s.REST.System(s.t.Context())
		if err != nil {
			return err
		}
		if !system.Ready {
			return fmt.Errorf("missing: %s", strings.Join(system.Missing, "; "))
		}
		return nil
	})
}

// ended is an error when a process of the system that was started has ended by itself.
func (s *Running) ended() error {
	var errs []error
	if s.All != nil {
		errs = append(errs, s.All.EndedByItself())
	}
	for _, p := range s.Services {
		errs = append(errs, p.EndedByItself())
	}
	return errors.Join(errs...)
}

// AwaitServing waits until an append is taken: one to a stream that is made for it. It
// is stronger than AwaitReady right after a crash, when the news of it may be old.
func (s *Running) AwaitServing(within time.Duration) {
	s.t.Helper()
	key := fmt.Sprintf("serving-%x", rand.Uint64())
	Eventually(s.t, within, "an append is taken", func() error {
		ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
		defer cancel()
		_, err := s.REST.Append(ctx, Append{Stream: "serving", Key: key, Events: []Event{{EventType: "Serving", Data: []byte("1")}}})
		return err
	})
}

// Readyz asks an instance's /readyz: its status and text.
func (s *Running) Readyz(node string) (int, string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin[node]+"/readyz", nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(text)), err
}

// AwaitNodeReady waits until an instance's own /readyz says that it is ready.
func (s *Running) AwaitNodeReady(node string, within time.Duration) {
	s.t.Helper()
	Eventually(s.t, within, node+" is ready", func() error {
		if err := s.Services[node].Ended(); err != nil {
			return err
		}
		status, text, err := s.Readyz(node)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return errors.New(text)
		}
		return nil
	})
}

// StillUp fails the test when a process of the system has ended.
func (s *Running) StillUp() {
	s.t.Helper()
	processes := map[string]*Process{"exesdb": s.All}
	if s.All == nil {
		processes = s.Services
	}
	for _, p := range processes {
		if err := p.Ended(); err != nil {
			s.t.Errorf("a process ended: %v", err)
		}
	}
}

// Admin reads a page of an instance's admin address.
func (s *Running) Admin(node, path string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin[node]+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return string(text), err
}
