package storage

import (
	"fmt"
	"log/slog"
)

// quiet is Pebble's logger: its chatter goes to the debug level of the
// service's log, or nowhere.
type quiet struct{ log *slog.Logger }

// Infof implements pebble.Logger.
func (quiet) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (q quiet) Errorf(format string, args ...any) {
	q.log.Debug("pebble", "message", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger. It must not return: Pebble cannot go on after
// a failed write to its log.
func (q quiet) Fatalf(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	q.log.Error("pebble cannot go on", "message", message)
	panic("pebble cannot go on: " + message)
}
