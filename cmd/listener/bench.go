package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/outbox-listener/outbox-listener/bench"
)

// benchCmd is `listener bench`.
type benchCmd struct {
	Only          []string `placeholder:"NAME" help:"Measure only these: ${benches}. May be repeated or separated by commas."`
	Rounds        int      `placeholder:"N" help:"How often each variant runs; 5 unless said otherwise."`
	Quick         bool     `help:"A twentieth of the size and one round: shows that it works, not how fast."`
	Database      string   `placeholder:"URL" help:"Use this server in place of a private one. Its role must be allowed to create databases; what is there is not touched."`
	Out           string   `placeholder:"DIR" help:"Where the report and its pictures go; bench/results unless said otherwise."`
	NoPeers       bool     `name:"no-peers" help:"Leave the other programs out."`
	Peers         string   `placeholder:"DIR" help:"Where the other programs are; bench/peers unless said otherwise."`
	SizeProcessed int      `placeholder:"N" help:"How many processed events the scenario size builds; 10,000,000 unless said otherwise."`
}

// benchNames are the values of --only, for its help.
func benchNames() string { return strings.Join(bench.Names(), ", ") }

func runBench(ctx context.Context, c *benchCmd, args []string, stdout, stderr io.Writer) int {
	_, err := bench.Run(ctx, bench.Options{
		Only: c.Only, Rounds: c.Rounds, Quick: c.Quick, Out: c.Out, NoPeers: c.NoPeers, Peers: c.Peers,
		Database: c.Database, SizeProcessed: c.SizeProcessed,
		Version: version(), Command: maskWords(strings.Join(append([]string{"listener"}, args...), " ")), Stdout: stdout,
	})
	if err != nil {
		fmt.Fprintln(stderr, "listener: "+err.Error())
		return exitCannot
	}
	return exitOK
}
