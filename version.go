package main

import (
	"runtime/debug"
	"strings"

	"github.com/prometheus/common/version"
)

// stampVersion takes the version from the build information if -ldflags set none. It
// must run before anything reads the version. The version package itself takes the
// revision from there.
func stampVersion() {
	if info, ok := debug.ReadBuildInfo(); ok && version.Version == "" {
		version.Version = versionOf(info)
	}
}

// versionOf returns the version of the main module without what Go adds to a tag, as
// -ldflags give it: the v in front, and the parentheses of (devel).
func versionOf(info *debug.BuildInfo) string {
	return strings.Trim(strings.TrimPrefix(info.Main.Version, "v"), "()")
}
