package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strconv"
	"sync"
	"text/tabwriter"

	"github.com/outbox-listener/outbox-listener/dispatch/routes"
)

// checkCmd is `listener check`.
type checkCmd struct {
	Offline bool    `help:"Do not call the providers."`
	JSON    bool    `name:"json" help:"Print what was found as JSON."`
	Large   float64 `default:"10000" placeholder:"N" help:"Warn of tables with more than N rows that are read whole. By default 10000."`
}

// Help is the longer part of the command's help.
func (checkCmd) Help() string {
	return `It reads the routes file; has the database plan each lookup and sql step,
without running any; compares the columns that texts use with those that the
lookups have; and asks each provider that is configured whether it knows us. Nothing
is sent or written.

Exit codes: 0 nothing is wrong (there may be warnings), 3 problems were found,
1 it could not check.`
}

// Validate is called by kong.
func (c checkCmd) Validate() error {
	if c.Large < 0 {
		return errors.New("--large has to be 0 or more")
	}
	return nil
}

// finding is something that is wrong, or may become so.
type finding struct {
	Severity string `json:"severity"` // problem or warning
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"` // from 1; missing where the file as a whole is meant
	Column   int    `json:"column,omitempty"`
	Message  string `json:"message"`
}

func (f finding) String() string {
	s := f.File
	if f.Line > 0 {
		s += fmt.Sprintf(":%d:%d", f.Line, f.Column)
	}
	if s != "" {
		s += ": "
	}
	if f.Severity == warning {
		s += "warning: "
	}
	return s + oneLine(f.Message)
}

const warning = "warning"

// subject is what was looked at, and what came of it.
type subject struct {
	Name   string `json:"name"`
	Result string `json:"result"`
}

// checkup is one run of `listener check`.
type checkup struct {
	cmd      checkCmd
	settings settings
	cfg      *config
	senders  *channels
	noRoutes bool           // OUTBOX_ROUTES cannot be read
	path     string         // of the routes; "" where there are none
	routes   *routes.Routes // nil where there are none, or they cannot be read

	findings []finding
	subjects []subject
}

// runCheck checks all that can be checked before anything is sent.
func runCheck(ctx context.Context, cmd checkCmd, s settings, stdout, stderr io.Writer) int {
	c := &checkup{cmd: cmd, settings: s}
	c.configuration()
	defer c.senders.Close()
	c.readRoutes()
	c.misspelled()
	c.exposed()
	c.channels()
	c.keys()
	c.fallbacks()
	c.database(ctx)
	c.credentials(ctx)
	c.providers(ctx)
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "listener: stopped before everything was checked")
		return exitCannot
	}
	if err := c.print(stdout); err != nil {
		fmt.Fprintf(stderr, "listener: %v\n", err)
		return exitCannot
	}
	if c.count("problem") > 0 {
		return exitFailures
	}
	return exitOK
}

func (c *checkup) count(severity string) int {
	n := 0
	for _, f := range c.findings {
		if f.Severity == severity {
			n++
		}
	}
	return n
}

// problem notes something that is wrong and has no place in the routes.
func (c *checkup) problem(format string, args ...any) {
	c.findings = append(c.findings, finding{Severity: "problem", Message: fmt.Sprintf(format, args...)})
}

// problemAt notes what is wrong at a place of the routes.
func (c *checkup) problemAt(at routes.Place, format string, args ...any) {
	c.findings = append(c.findings, finding{"problem", c.path, at.Line, at.Column, fmt.Sprintf(format, args...)})
}

func (c *checkup) warnAt(at routes.Place, format string, args ...any) {
	c.findings = append(c.findings, finding{warning, c.path, at.Line, at.Column, fmt.Sprintf(format, args...)})
}

func (c *checkup) looked(name, format string, args ...any) {
	c.subjects = append(c.subjects, subject{name, fmt.Sprintf(format, args...)})
}

// configuration reads the variables.
func (c *checkup) configuration() {
	cfg, problems := readConfig(c.settings)
	senders, more := newChannels(cfg, slog.New(slog.DiscardHandler))
	c.cfg, c.senders = cfg, senders
	for _, p := range append(problems, more...) {
		c.problem("%s", p)
		c.noRoutes = c.noRoutes || p.name == "OUTBOX_ROUTES"
	}
}

// misspelled warns of variables that nobody reads and that look like ours.
func (c *checkup) misspelled() {
	var others []string
	if c.routes != nil {
		others = variablesOf(c.routes)
	}
	for _, m := range c.settings.misspelled(others...) {
		c.findings = append(c.findings, finding{Severity: warning, Message: fmt.Sprintf("%s is none of our variables; did you mean %s?", m.name, m.meant)})
	}
}

// place is how a line of problemLines begins where it has a place.
var place = regexp.MustCompile(`^:([0-9]+):([0-9]+): `)

// fileProblems notes the problems of an error that is about the routes file.
func (c *checkup) fileProblems(err error) {
	for _, line := range problemLines(err) {
		var at routes.Place
		if len(line) > len(c.path) && line[:len(c.path)] == c.path {
			line = line[len(c.path):]
			if m := place.FindStringSubmatch(line); m != nil {
				at.Line, _ = strconv.Atoi(m[1]) // digits only
				at.Column, _ = strconv.Atoi(m[2])
				line = line[len(m[0]):]
			} else if len(line) > 2 {
				line = line[2:]
			}
		}
		c.problemAt(at, "%s", line)
	}
}

// print prints what was found, and what was looked at.
func (c *checkup) print(w io.Writer) error {
	problems, warnings := c.count("problem"), c.count(warning)
	if c.cmd.JSON {
		out, err := json.MarshalIndent(struct {
			OK       bool      `json:"ok"`
			Problems int       `json:"problems"`
			Warnings int       `json:"warnings"`
			Findings []finding `json:"findings"`
			Checked  []subject `json:"checked"`
		}{problems == 0, problems, warnings, append([]finding{}, c.findings...), c.subjects}, "", "  ")
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\n", out)
		}
		return err
	}
	for _, f := range c.findings {
		if _, err := fmt.Fprintln(w, f); err != nil {
			return err
		}
	}
	if len(c.findings) > 0 {
		fmt.Fprintln(w)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range c.subjects {
		fmt.Fprintf(t, "%s\t%s\n", s.Name, oneLine(s.Result))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s, %s\n", counted(problems, "problem"), counted(warnings, "warning"))
	return err
}

// sideBySide runs f for each of 0 to n-1 at the same time.
func sideBySide(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
