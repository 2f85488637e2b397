// Package version says which build is running.
package version

import "runtime/debug"

// Version is the release; set at link time with -ldflags "-X …/shared/version.Version=…".
var Version = ""

// String is the release, or the commit of the build, or "devel".
func String() string {
	if Version != "" {
		return Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
