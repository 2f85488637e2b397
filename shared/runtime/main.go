package runtime

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/shared/config"
	"github.com/exesdb/exesdb/shared/version"
)

// Settings are the configuration of a service.
type Settings interface {
	Validate() error
	// Shared are the settings that all services have.
	Shared() config.Common
}

// Main is the main function of a service: parse, validate, wire, run. It
// returns the exit code: 0, 1 when it failed, 2 for a bad configuration.
func Main[S Settings](system registry.System, doc string, settings S, run func(context.Context, *Instance, S) error) int {
	var cli struct {
		Settings S                `embed:""`
		Check    bool             `name:"validate" help:"Check the configuration and exit."`
		Version  kong.VersionFlag `name:"version" help:"Print the version and exit."`
	}
	cli.Settings = settings
	parser, err := kong.New(&cli, kong.Name(string(system)), kong.Description(doc), kong.Vars{"version": version.String()})
	if err == nil {
		_, err = parser.Parse(os.Args[1:])
		settings = cli.Settings // kong fills a new one in where an embedded field is a pointer
	}
	if err == nil {
		err = settings.Validate()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: bad configuration: %v (%s --help lists the flags)\n", system, err, system)
		return 2
	}
	if cli.Check {
		fmt.Printf("%s: the configuration is valid\n", system)
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := open(ctx, system, settings, run); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", system, err)
		return 1
	}
	return 0
}

func open[S Settings](ctx context.Context, system registry.System, settings S, run func(context.Context, *Instance, S) error) error {
	instance, err := Open(ctx, system, settings.Shared())
	if err != nil {
		return err
	}
	return instance.Run(ctx, func(ctx context.Context) error { return run(ctx, instance, settings) })
}
