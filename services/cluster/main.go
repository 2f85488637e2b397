// Command cluster keeps the membership of the cluster.
package main

import (
	"os"

	"github.com/exesdb/exesdb/contracts/registry"
	"github.com/exesdb/exesdb/services/cluster/app"
	"github.com/exesdb/exesdb/shared/runtime"
)

func main() {
	os.Exit(runtime.Main(registry.Cluster, "Keeps the membership of the cluster.", &app.Config{}, app.Run))
}
