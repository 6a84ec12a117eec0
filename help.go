package main

import (
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// A line of the help has as many columns as the terminal, within these limits.
const minHelpWidth, maxHelpWidth = 40, 100

const helpTemplate = `usage: {{.App.Name}} [<flags>]

{{wrap .Width 0 .App.Help}}{{range groups .App.FlagGroupModel}}
{{.Title}}:
{{range .Flags}}  {{label .}}
{{wrap $.Width 6 .HelpWithEnvar}}{{end}}{{end}}`

// flagGroup is a group of flags in the help.
type flagGroup struct {
	Title string
	Flags []*kingpin.FlagModel
}

// groupFlags returns the flags in the groups and in the order of the help.
func groupFlags(flags *kingpin.FlagGroupModel) []flagGroup {
	var groups []flagGroup
	add := func(title string, names ...string) {
		group := flagGroup{Title: title}
		for _, name := range names {
			named := func(f *kingpin.FlagModel) bool { return f.Name == name }
			if i := slices.IndexFunc(flags.Flags, named); i >= 0 { // --web.systemd-socket is for Linux only
				group.Flags = append(group.Flags, flags.Flags[i])
			}
		}
		groups = append(groups, group)
	}
	add("What to watch", "crs.region", "crs.redis-id", "crs.task-type", "crs.lookback")
	add("Try it and check it", "demo", "demo.retire-after", "check", "healthcheck")
	add("API and credentials", "crs.api", "crs.credentials-file", "crs.role-arn", "crs.endpoint", "crs.v3-endpoint", "crs.method", "crs.utc-offset")
	add("Reading the list", "scrape.timeout-offset", "scrape.min-interval", "crs.rate-limit", "crs.concurrency", "crs.request-timeout", "crs.page-size", "crs.sync", "crs.full-sync-interval")
	add("State", "state.file")
	add("Web", "web.listen-address", "web.telemetry-path", "web.external-url", "web.route-prefix", "web.config.file", "web.systemd-socket")
	add("Log", "log.level", "log.format", "crs.failure-reasons")
	add("Help", "help", "help-man", "version", "completion-script-bash", "completion-script-zsh")
	return groups
}

// flagLabel returns a flag as it is written, with its default or a placeholder.
func flagLabel(f *kingpin.FlagModel) string {
	label := "--" + f.Name
	switch {
	case f.IsBoolFlag() && slices.Equal(f.Default, []string{"true"}):
		label = "--[no-]" + f.Name
	case !f.IsBoolFlag():
		label += "=" + strings.Trim(f.FormatPlaceHolder(), `"`)
	}
	if v, ok := f.Value.(interface{ IsCumulative() bool }); ok && v.IsCumulative() {
		label += " ..."
	}
	if f.Short != 0 {
		label = "-" + string(f.Short) + ", " + label
	}
	return label
}

// wrapHelp breaks lines at blanks, and keeps paragraphs. A word longer than a line
// gets a line.
func wrapHelp(width, indent int, text string) string {
	width = min(max(width, minHelpWidth), maxHelpWidth)
	margin := strings.Repeat(" ", indent)
	var b strings.Builder
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		column := 0
		for _, word := range strings.Fields(paragraph) {
			switch {
			case column == 0:
				b.WriteString(margin)
				column = indent
			case column+1+len(word) > width:
				b.WriteString("\n" + margin)
				column = indent
			default:
				b.WriteByte(' ')
				column++
			}
			b.WriteString(word)
			column += len(word)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
