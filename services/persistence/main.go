// Command persistence applies the log into a local store and serves history.
package main

import (
	"os"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/persistence/app"
	"github.com/exesdb/exesdb/shared/runtime"
)

func main() {
	os.Exit(runtime.Main(registry.Persistence, "Applies the log into a local store and serves history.", &app.Config{}, app.Run))
}
