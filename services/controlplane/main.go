// Command controlplane tells when the whole system is ready.
package main

import (
	"os"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/controlplane/app"
	"github.com/exesdb/exesdb/shared/runtime"
)

func main() {
	os.Exit(runtime.Main(registry.ControlPlane, "Tells when the whole system is ready.", &app.Config{}, app.Run))
}
