// Command infra runs the embedded broker, or the embedded Redis, as a process of its
// own, so that tests can kill and freeze it apart from the services.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/exesdb/exesdb/tools/embedded"
)

func main() {
	kafka := flag.String("kafka", "", "address of the broker")
	dir := flag.String("dir", "", "where the broker keeps its log")
	control := flag.String("control", "", "address where tests inject faults into the broker; none when empty")
	redis := flag.String("redis", "", "address of Redis")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *kafka, *dir, *control, *redis)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "infra:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kafka, dir, control, redis string) error {
	if kafka != "" {
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
		broker, err := embedded.StartBroker(embedded.BrokerOptions{Addr: kafka, Dir: dir, Logger: log, Faults: control != ""})
		if err != nil {
			return err
		}
		defer broker.Close()
		if control != "" {
			if err := serveControl(ctx, control, broker); err != nil {
				return err
			}
		}
	}
	if redis != "" {
		server, err := embedded.StartRedis(redis)
		if err != nil {
			return err
		}
		defer server.Close()
	}
	<-ctx.Done()
	return nil
}
