package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// configCmd is `listener config`.
type configCmd struct {
	Markdown bool `help:"Print docs/configuration.md, which describes the variables, in place of their values."`
}

// runConfig prints the configuration. It exits 1 where something is wrong
// with it, so that it is a test of it too.
func runConfig(cmd configCmd, s settings, stdout, stderr io.Writer) int {
	if cmd.Markdown {
		if _, err := io.WriteString(stdout, configMarkdown()); err != nil {
			fmt.Fprintf(stderr, "listener: %v\n", err)
			return exitCannot
		}
		return exitOK
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for i := range variables {
		v := &variables[i]
		f, err := s.find(v)
		value, source := short100(s.scrubbed(v, f.value)), f.source
		switch {
		case err != nil:
			value = "?"
		case f.value == "":
			value, source = "-", "not set"
		case f.file != "":
			source += ", " + f.file
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", v.name, printable(value), printable(source))
	}
	if err := t.Flush(); err != nil {
		fmt.Fprintf(stderr, "listener: %v\n", err)
		return exitCannot
	}
	for _, m := range s.misspelled() {
		fmt.Fprintf(stderr, "warning: %s is none of our variables; did you mean %s?\n", m.name, m.meant)
	}
	cfg, problems := readConfig(s)
	for _, ch := range providers {
		if missing := cfg.missing(ch); len(missing) > 0 {
			fmt.Fprintf(stderr, "warning: %s is not configured (missing: %s); its deliveries are skipped\n", ch, strings.Join(missing, ", "))
		}
	}
	_, more := newChannels(cfg, newLogger(io.Discard, logJSON, 0, nil))
	if problems = append(problems, more...); len(problems) > 0 {
		return complain(stderr, problems)
	}
	return exitOK
}

// scrubbed is value as lists may show it.
func (s settings) scrubbed(v *variable, value string) string {
	if v.secret {
		return v.shown(value)
	}
	return s.scrub(value)
}

// configMarkdown is docs/configuration.md.
func configMarkdown() string {
	var b strings.Builder
	b.WriteString(markdownHead)
	for i := range variables {
		v := &variables[i]
		if v.group != "" {
			fmt.Fprintf(&b, "\n## %s\n\n| variable | meaning | accepted | default |\n|---|---|---|---|\n", v.group)
		}
		name := "`" + v.name + "`"
		if v.secret {
			name += " (secret)"
		}
		def := v.unset
		switch {
		case v.required:
			def = "none: it is required"
		case v.def != "":
			def = "`" + v.def + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, cell(v.meaning), cell(v.accepts), cell(def))
	}
	b.WriteString(markdownTail)
	return b.String()
}

// cell is a text in a Markdown table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

const markdownHead = `# Configuration

<!-- Generated from cmd/listener/vars.go: go run ./cmd/listener config --markdown > docs/configuration.md -->

The listener is configured by variables. ` + "`listener config`" + ` prints them all, with their values and where
those come from, and says what is wrong with them.

Each is looked up in the process environment, then in the file ` + "`.env`" + ` in the working directory
(` + "`--env-file`" + ` names another one, which has to exist), then it has its default. A variable that is
set to nothing in one place has its default, whatever the places after it say. Names that are none
of ours are ignored; a name that begins with ` + "`OUTBOX_`" + ` and looks like one of ours is warned about.

The file has lines of ` + "`NAME=value`" + `; values may be quoted. A ` + "`$`" + ` in it is just a dollar sign.

What is marked as secret may stand in a file of its own: ` + "`NAME_FILE=path`" + ` in place of ` + "`NAME=value`" + `, as for
systemd's ` + "`LoadCredential`" + ` or mounted secrets. A line break at its end does not count. Secrets are never
printed: not in logs, not in errors, and ` + "`listener config`" + ` shows ` + "`***`" + ` for them.
`

const markdownTail = `
## Which mode

| | |
|---|---|
| ` + "`OUTBOX_POLL_INTERVAL_MS`" + ` above 0 | the daemon |
| ` + "`OUTBOX_POLL_INTERVAL_MS`" + ` 0 or unset | one batch of at most ` + "`OUTBOX_BATCH_SIZE`" + ` events, then it exits |
| ` + "`listener --once`" + `, whatever that variable says | batch after batch until nothing is due (` + "`--limit N`" + ` caps it), then it exits |

The two that exit print the counts of events to stdout as JSON, and log to stderr:

    {
      "ok": true,
      "total": 3,
      "processed": 2,
      "skipped": 1,
      "errors": 0
    }

` + "`total`" + ` is the sum of the three after it; ` + "`errors`" + ` are events of which a delivery is dead or waits for a
retry or a person. ` + "`ok`" + ` is false where the run broke off; then the counts are those up to there.

The daemon logs to stdout, and has the admin endpoint.

| exit code | |
|---|---|
| 0 | done. The one batch exits 0 whenever it ran, as it always did; ` + "`--once`" + ` only if there were no errors |
| 1 | it could not run, or broke off; stderr says why, in one line for each reason |
| 2 | the command line is wrong |
| 3 | ` + "`--once`" + ` ran, and there were errors; ` + "`check`" + ` ran, and found problems |
| 130 | a second signal cut the stop short |

The daemon waits for a database that cannot be reached yet. A refused login, an unknown database, and a
schema that is missing or old end it at once, with exit code 1.
`
