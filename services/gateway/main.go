// Command gateway serves the public API over REST and gRPC.
package main

import (
	"os"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/gateway/app"
	"github.com/exesdb/exesdb/shared/runtime"
)

func main() {
	os.Exit(runtime.Main(registry.Gateway, "Serves the public API over REST and gRPC.", &app.Config{}, app.Run))
}
