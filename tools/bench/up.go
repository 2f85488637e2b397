package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

const (
	upTimeout = 60 * time.Second
	readyTick = 20 * time.Millisecond
)

// startUp runs `exesdb up` on free ports and returns when it is ready.
func startUp(ctx context.Context, dir string, extra []string) (p *process, grpcAddr, adminAddr string, err error) {
	addrs, err := freeAddrs(5)
	if err != nil {
		return nil, "", "", err
	}
	args := append([]string{
		"up", "--data-dir", dir, "--http-addr", addrs[0], "--grpc-addr", addrs[1],
		"--kafka-addr", addrs[2], "--redis-bind", addrs[3], "--admin-addr", addrs[4],
	}, extra...)
	p, out, err := start(args...)
	if err != nil {
		return nil, "", "", err
	}
	go func() { _, _ = out.WriteTo(discard{}) }()
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	go func() {
		select {
		case <-p.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := awaitReady(ctx, addrs[1]); err != nil {
		select {
		case <-p.ended:
			err = errors.New("it ended")
		default:
		}
		return nil, "", "", errors.Join(fmt.Errorf("start exesdb up: %w: %s", err, p.errors), p.stop())
	}
	return p, addrs[1], addrs[4], nil
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

func awaitReady(ctx context.Context, addr string) error {
	conn, err := dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	client := apiv1.NewEventStoreClient(conn)
	for {
		resp, err := client.GetSystem(ctx, &apiv1.GetSystemRequest{})
		if err == nil && resp.GetReady() {
			return nil
		}
		if !pause(ctx, readyTick) {
			if err == nil {
				err = fmt.Errorf("missing %v", resp.GetMissing())
			}
			return fmt.Errorf("wait until %s is ready: %w", addr, err)
		}
		conn.ResetConnectBackoff()
	}
}

// freeAddrs finds ports that were free a moment ago.
func freeAddrs(n int) ([]string, error) {
	var addrs []string
	var held []net.Listener // until the end, so that all differ
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		held = append(held, l)
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// residentBytes is what the process has in memory now, 0 where /proc is not there.
func residentBytes(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	return statusKiB(string(text), "VmRSS") << 10
}
