package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch/golden"
	"github.com/outbox-listener/outbox-listener/dispatch/routes"
)

// routesCmd is `listener routes`.
type routesCmd struct {
	Test   routesTestCmd `cmd:"" help:"Test the routes by files: events, and what is expected to become of them. Needs no database and no provider."`
	Schema struct{}      `cmd:"" help:"Print the JSON Schema of the routes file, with which editors complete and check it."`
}

// routesTestCmd is `listener routes test`.
type routesTestCmd struct {
	Dir    string `arg:"" optional:"" help:"The folder of the tests. Default: routes_test beside the routes file."`
	Update bool   `help:"Write down what becomes of the events as what is expected."`
}

// Help is printed by kong.
func (routesTestCmd) Help() string {
	return `Each NAME.event.json has an event and what lookups, steps and the model answer; NAME.expected.json has what becomes
of it, as "listener preview --json" prints it. It needs no database, no provider and no variables but OUTBOX_ROUTES, where
the routes file is neither routes.yaml beside the folder nor in the working directory.

Exit codes: 0 all as expected, 1 could not run, 2 wrong command line, 3 something is not as expected.`
}

// testsFolder is where the tests of a routes file are.
const testsFolder = "routes_test"

// runRoutesTest tests the routes file by its folder of tests. It exits 3 where
// something is not as expected.
func runRoutesTest(ctx context.Context, cmd routesTestCmd, s settings, stdout, stderr io.Writer) int {
	cfg, problems := readConfig(s)
	problems = slices.DeleteFunc(problems, func(p problem) bool { return p.name != "OUTBOX_ROUTES" })
	if len(problems) > 0 {
		return complain(stderr, problems)
	}
	fail := func(err error) int {
		fmt.Fprintf(stderr, "listener: %s\n", oneLine(err.Error()))
		return exitCannot
	}
	suite := golden.Suite{Dir: cmd.Dir, Update: cmd.Update}
	if beside := filepath.Join(cmd.Dir, "..", defaultRoutes); cmd.Dir != "" && cfg.Routes == "" && isFile(beside) {
		suite.Routes = beside
	} else if suite.Routes = routesPath(cfg); suite.Routes == "" {
		return fail(errors.New("there is no routes file: OUTBOX_ROUTES is not set, and there is no " + defaultRoutes))
	}
	if suite.Dir == "" {
		suite.Dir = filepath.Join(filepath.Dir(suite.Routes), testsFolder)
	}
	var err error
	if suite.Source, err = os.ReadFile(suite.Routes); err != nil {
		return fail(fmt.Errorf("%s: %w", suite.Routes, lastError(err)))
	}
	results, err := suite.Run(ctx)
	if _, ok := errors.AsType[*routes.Problems](err); ok {
		complainRoutes(stderr, err)
		return exitCannot
	}
	if err != nil {
		return fail(err)
	}
	failed, err := printTests(stdout, results)
	switch {
	case err != nil:
		return fail(err)
	case failed:
		return exitFailures
	}
	return exitOK
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// printTests prints a line for each test, what is wrong with it below that, and
// how many there are of each. It reports whether one failed.
func printTests(w io.Writer, results []golden.Result) (failed bool, err error) {
	out := &printed{w: w}
	good, bad := 0, 0
	for _, r := range results {
		word := "ok   "
		switch {
		case r.Failed():
			word = "FAIL "
			bad++
		case r.Wrote:
			word = "wrote"
			good++
		default:
			good++
		}
		of := ""
		if r.Deliveries > 0 {
			of = fmt.Sprintf(" (%s)", plural(r.Deliveries, "delivery", "deliveries"))
			if r.Refused > 0 {
				of = fmt.Sprintf(" (%s, %d refused)", plural(r.Deliveries, "delivery", "deliveries"), r.Refused)
			}
		}
		out.line("%s %s%s", word, r.Name, of)
		for _, text := range r.Errors {
			out.line("      %s", printable(text))
		}
		for _, text := range r.Warnings {
			out.line("      warning: %s", printable(text))
		}
		if r.Failed() && r.Missing && len(r.Errors) == 0 {
			out.line("      there is no %s.expected.json; --update writes it, for you to read", r.Name)
		}
		if r.Diff != "" && !r.Wrote {
			for line := range strings.Lines(r.Diff) {
				out.line("%s", printable(strings.TrimSuffix(line, "\n")))
			}
		}
	}
	summary := plural(good, "test", "tests") + " as expected"
	if bad > 0 {
		summary += fmt.Sprintf(", %d not; --update writes down what is meant to have changed", bad)
	}
	out.line("%s", summary)
	return bad > 0, out.err
}

// printed writes until the first error, which it keeps.
type printed struct {
	w   io.Writer
	err error
}

func (p *printed) line(format string, args ...any) { p.text(fmt.Sprintf(format, args...) + "\n") }

func (p *printed) text(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, s)
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// printSchema prints the JSON Schema of the routes file.
func printSchema(stdout io.Writer) int {
	if _, err := stdout.Write(routes.Schema()); err != nil {
		return exitCannot
	}
	return exitOK
}
