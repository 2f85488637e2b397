// Package app wires the persistence service.
package app

import (
	"errors"
	"fmt"

	"github.com/exesdb/exesdb/shared/config"
)

// Config of the persistence service. The struct tags are kong's.
type Config struct {
	config.Common  `embed:""`
	DataDir        string `name:"data-dir" env:"EXESDB_DATA_DIR" default:"./data" help:"Directory of the store."`
	CacheBytes     int64  `name:"cache-bytes" env:"EXESDB_CACHE_BYTES" default:"134217728" help:"Block cache of all shards together, in bytes."`
	MinFreeBytes   uint64 `name:"min-free-bytes" env:"EXESDB_MIN_FREE_BYTES" default:"0" help:"Free space below which writes stop, in bytes; 0 is 256 MiB or 2% of the disk, whichever is smaller."`
	Replicas       int    `name:"replicas" env:"EXESDB_REPLICAS" default:"1" help:"Replicas of each shard."`
	AnnounceWrites bool   `name:"announce-writes" env:"EXESDB_ANNOUNCE_WRITES" default:"true" negatable:"" help:"Publish persistence_write_started for every applied write."`
}

// Validate reports everything that is wrong.
func (c *Config) Validate() error {
	errs := []error{c.Common.Validate()}
	if c.DataDir == "" {
		errs = append(errs, errors.New("--data-dir: want a directory"))
	}
	if c.CacheBytes < 1<<20 {
		errs = append(errs, fmt.Errorf("--cache-bytes %d: want at least 1048576 (1 MiB)", c.CacheBytes))
	}
	if c.Replicas < 1 {
		errs = append(errs, fmt.Errorf("--replicas %d: want 1 or more", c.Replicas))
	}
	return errors.Join(errs...)
}
