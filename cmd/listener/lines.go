package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// linesCmd is `listener lines`.
type linesCmd struct {
	Limit int  `placeholder:"N" help:"The N that have stood the longest."`
	JSON  bool `name:"json" help:"Print JSON, one line a line."`
}

// Help is printed by kong.
func (linesCmd) Help() string {
	return `Of the deliveries with an ordering_key: which are first and have not arrived, since when, why, and how many wait behind
each. Cancel the first one, by its id, to let the next one go. A line may also wait for an event that cannot be planned, of which
nobody knows the key. At most 100 unless --limit says otherwise.`
}

// Validate is called by kong.
func (c linesCmd) Validate() error {
	if c.Limit < 0 {
		return errors.New("--limit has to be 0 or more")
	}
	return nil
}

// runLines lists what waits in order and returns the exit code.
func runLines(ctx context.Context, cmd *linesCmd, s settings, stdout, stderr io.Writer) int {
	o, done, ok := openOperator(ctx, s, stderr)
	if !ok {
		return exitCannot
	}
	defer done()
	o.Ordered = orderedOf(s)
	list, err := o.Lines(ctx, cmd.Limit)
	if err != nil {
		return cannot(stderr, err)
	}
	if cmd.JSON {
		return printJSON(list, stdout, stderr)
	}
	printLines(stdout, list)
	printMore(stdout, "the %d that have stood the longest", len(list), cmd.Limit)
	return exitOK
}

// orderedOf is what the routes file of s has in order, where it is there and good. A person who
// looks from elsewhere needs none, and nobody who looks needs its credentials.
func orderedOf(s settings) func() []string {
	path := foundRoutes(readConfig(s))
	if path == "" {
		return nil
	}
	r, err := loadRoutes(path, s)
	if err != nil {
		return nil
	}
	return r.Ordered
}

// printLines prints lines for people.
func printLines(w io.Writer, list []operate.Line) {
	if len(list) == 0 {
		fmt.Fprintln(w, "nothing waits for its turn")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ORDERING KEY\tWAITING\tFIRST\tEVENT TYPE\tCHANNEL\tSTATE\tSINCE\tATTEMPTS\tLAST ERROR")
	for _, l := range list {
		d := l.First
		why := short100(oneLine(d.Error))
		if w := l.WaitsFor; w != nil {
			why = strings.TrimPrefix(fmt.Sprintf("%s; waits for event %s (%s), which is not planned yet", why, w.Event, w.Type), "; ")
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", word(l.Key), l.Waiting, d.ID, word(d.Type), word(d.Channel), d.State,
			d.Since.UTC().Format("2006-01-02 15:04:05Z"), d.Attempts, word(why))
	}
	_ = t.Flush() // to whoever has gone meanwhile
}
