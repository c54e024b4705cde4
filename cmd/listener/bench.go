package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/outbox-listener/outbox-listener/bench"
)

// benchCmd is `listener bench`.
type benchCmd struct {
	Only          []string `placeholder:"NAME" help:"Measure only these: ${benches}. May be repeated or separated by commas."`
	Part          string   `enum:"all,short,long" default:"all" help:"Only the scenarios of some seconds or minutes (short), or those that need large tables or minutes of events (long): ${enum}. --only goes before it."`
	Rounds        int      `placeholder:"N" help:"How often each variant runs; 5 unless said otherwise."`
	Quick         bool     `help:"A twentieth of the size and one round: shows that it works, and judges no figure."`
	Database      string   `placeholder:"URL" help:"Use this server in place of a private one. Its role must be allowed to create databases; what is there is not touched."`
	Out           string   `placeholder:"DIR" help:"Where the report and its pictures go; bench/results unless said otherwise."`
	NoPeers       bool     `name:"no-peers" help:"Leave the other programs out."`
	Peers         string   `placeholder:"DIR" help:"Where the other programs are; bench/peers unless said otherwise."`
	SizeProcessed int      `placeholder:"N" help:"How many processed events the scenario size builds; 10,000,000 unless said otherwise."`
}

// Help is the longer part of the command's help.
func (benchCmd) Help() string {
	return `It measures this very program, run as processes, on a private Postgres with
fsync on, and beside other programs that do the same work. Targets that are not
met are in the report; they are no failure. Run it in the folder of the
repository, on a machine that has nothing else to do.

All of it takes well over half an hour; --part=short and --part=long each take
about half of that. A report never replaces another.

Without --database, Postgres is found as for "listener dev". With it, the
databases that it makes on that server are named outbox_bench_*, and go again;
the database of the URL itself is only connected to, and nothing in it is read or
written. What cannot be measured there is left out, and the report says why.

The other programs need Go and Node.js; one that cannot be built is left out,
and the report says so.`
}

// Validate is called by kong.
func (c benchCmd) Validate() error {
	switch {
	case c.Rounds < 0:
		return errors.New("--rounds has to be 1 or more; 0 means the default")
	case c.SizeProcessed < 0:
		return errors.New("--size-processed has to be 1 or more; 0 means the default")
	}
	return nil
}

// helpVars are what the help texts name: the values of bench --only.
func helpVars() kong.Vars { return kong.Vars{"benches": strings.Join(bench.Names(), ", ")} }

// runBench measures and returns the exit code: 0 also where targets are not
// met. args is the command line, for the report.
func runBench(ctx context.Context, c *benchCmd, args []string, stdout, stderr io.Writer) int {
	if !signal.Ignored(syscall.SIGHUP) { // as it is under nohup
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP) // the terminal was closed
		defer stop()
	}
	_, err := bench.Run(ctx, bench.Options{
		Only: c.Only, Part: strings.TrimPrefix(c.Part, "all"), Rounds: c.Rounds, Quick: c.Quick, Out: c.Out, NoPeers: c.NoPeers, Peers: c.Peers,
		Database: c.Database, SizeProcessed: c.SizeProcessed,
		Version: version(), Command: maskWords(strings.Join(append([]string{"listener"}, args...), " ")), Stdout: stdout,
	})
	if err != nil {
		fmt.Fprintln(stderr, "listener: "+err.Error())
		return exitCannot
	}
	return exitOK
}
