package main

import (
	"bufio"
	"context"
	"fmt"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// exportCommand writes all events in the form that import reads.
type exportCommand struct {
	target `embed:""`
	File   string `arg:"" optional:"" default:"-" help:"Output file; \"-\" is standard output."`
	Full   bool   `name:"full" help:"Also write version, position and time, which import leaves to the server."`
	From   string `name:"from-position" help:"Go on after this position."`
}

// Run writes events in the order of the log.
func (x *exportCommand) Run(ctx context.Context) error {
	file := os.Stdout
	if x.File != "-" {
		created, err := os.Create(x.File)
		if err != nil {
			return fmt.Errorf("write the export: %w", err)
		}
		defer created.Close()
		file = created
	}
	client, closeConn, err := x.dial()
	if err != nil {
		return err
	}
	defer closeConn()
	out := bufio.NewWriterSize(file, 1<<20)
	bar := progress(-1, "exporting")
	req := &apiv1.ReadAllRequest{Limit: pageSize, FromPosition: x.From}
	for {
		page, err := client.ReadAll(x.context(ctx), req)
		if err != nil {
			return explain("export after position "+req.GetFromPosition(), err)
		}
		for _, e := range page.GetEvents() {
			line := lineOf(e)
			if !x.Full {
				line.Version, line.Position, line.CreatedAtMs = nil, "", 0
			}
			if err := writeLine(out, line); err != nil {
				return err
			}
		}
		_ = bar.Add(len(page.GetEvents()))
		if !page.GetHasMore() {
			break
		}
		req.FromPosition = page.GetNextPosition()
	}
	_ = bar.Finish()
	return out.Flush()
}

// progress is a bar on standard error when that is a terminal, else nothing.
func progress(total int64, doing string) *progressbar.ProgressBar {
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(doing), progressbar.OptionShowCount(),
		progressbar.OptionShowIts(), progressbar.OptionSetItsString("events"), progressbar.OptionThrottle(100_000_000),
		progressbar.OptionSetVisibility(term.IsTerminal(int(os.Stderr.Fd()))), progressbar.OptionClearOnFinish()) //nolint:gosec // a file descriptor
}
