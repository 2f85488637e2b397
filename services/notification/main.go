// Command notification publishes the feed of acknowledged events.
package main

import (
	"os"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/notification/app"
	"github.com/exesdb/exesdb/shared/runtime"
)

func main() {
	os.Exit(runtime.Main(registry.Notification, "Publishes the feed of acknowledged events.", &app.Config{}, app.Run))
}
