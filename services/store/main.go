// Command store validates writes, puts them into the log and acknowledges them.
package main

import (
	"os"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/store/app"
	"github.com/exesdb/exesdb/shared/runtime"
)

func main() {
	os.Exit(runtime.Main(registry.Store, "Validates writes, puts them into the log and acknowledges them.", &app.Config{}, app.Run))
}
