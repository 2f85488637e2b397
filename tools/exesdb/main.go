// Command exesdb runs ExESDB and talks to it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	kongcompletion "github.com/jotaen/kong-completion"

	"github.com/exesdb/exesdb/shared/version"
)

// cli is the command line; kong derives help and completion from it.
type cli struct {
	Up      upCommand      `cmd:"" help:"Run everything in this process: six services, a broker and Redis."`
	Append  appendCommand  `cmd:"" help:"Append events to a stream."`
	Read    readCommand    `cmd:"" help:"Read a stream, or all streams, as JSON lines."`
	Streams streamsCommand `cmd:"" help:"List streams."`
	Tail    tailCommand    `cmd:"" help:"Follow events of the catalogue on their Kafka topics, as JSON lines."`
	Import  importCommand  `cmd:"" help:"Append events from NDJSON; repeatable, it appends each once."`
	Export  exportCommand  `cmd:"" help:"Write all events as NDJSON."`
	Bench   benchCommand   `cmd:"" help:"Measure appends and reads beside the bare pipeline and peers."`
	Verify  verifyCommand  `cmd:"" help:"Check a stopped store: versions, ids, heads, indexes, and the log."`
	Version versionCommand `cmd:"" help:"Print the version."`

	Completion kongcompletion.Completion `cmd:"" help:"Print shell completion code."`
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run() error {
	fmt.Println("exesdb", version.String())
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx)
	stop()
	os.Exit(code)
}

func run(ctx context.Context) int {
	var c cli
	parser := kong.Must(&c, kong.Name("exesdb"), kong.Description("An event store of small services over Kafka."),
		kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil)))
	kongcompletion.Register(parser)
	cmd, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "exesdb:", err)
		return 1
	}
	return 0
}
