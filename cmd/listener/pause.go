package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// pauseFlags say what is paused or resumed.
type pauseFlags struct {
	Type    givenNames `placeholder:"TYPE" help:"Events of this type, or of quote.* all that begin so."`
	Channel givenNames `placeholder:"NAME" help:"This channel."`
	DryRun  bool       `help:"Say what would be done. Nothing is changed."`
	Yes     bool       `short:"y" help:"Do not ask."`
	Reason  string     `placeholder:"WORDS" help:"Why, for the audit."`
	JSON    bool       `name:"json" help:"Print JSON. Goes with --yes or --dry-run."`
}

func (f pauseFlags) names() bool { return len(f.Type)+len(f.Channel) > 0 }

func (f pauseFlags) check() error {
	for _, typ := range f.Type {
		if err := operate.CheckPattern(typ); err != nil {
			return err
		}
	}
	if f.JSON && f.names() && !f.Yes && !f.DryRun {
		return errors.New("--json goes with --yes or --dry-run")
	}
	return nil
}

// pauseCmd is `listener pause`.
type pauseCmd struct{ pauseFlags }

// Help is printed by kong.
func (pauseCmd) Help() string {
	return `Nothing of it is sent until it is resumed; no attempt is counted, and nothing is lost. Events are planned all the same: what
they say is fixed then. Running listeners hear of it with their next sweep, within seconds. Without --type and --channel it
lists what is paused, and where listeners send nothing by themselves, since it is down or asked for time.`
}

// Validate is called by kong.
func (c pauseCmd) Validate() error { return c.check() }

// resumeCmd is `listener resume`.
type resumeCmd struct{ pauseFlags }

// Validate is called by kong.
func (c resumeCmd) Validate() error {
	if !c.names() {
		return errors.New("say what: --type or --channel, as it was paused")
	}
	return c.check()
}

// runPause pauses or resumes what flags name, or lists what is paused, and
// returns the exit code.
func runPause(ctx context.Context, action operate.Action, flags *pauseFlags, s settings, stdout, stderr io.Writer) int {
	return pauseOr(ctx, action, flags, s, terminal{os.Stdin, isTerminal(os.Stdin) && isTerminal(stdout)}, stdout, stderr)
}

func pauseOr(ctx context.Context, action operate.Action, flags *pauseFlags, s settings, t terminal, stdout, stderr io.Writer) int {
	o, done, ok := openOperator(ctx, s, stderr)
	if !ok {
		return exitCannot
	}
	defer done()
	if !flags.names() {
		return listPauses(ctx, o, flags.JSON, stdout, stderr)
	}
	if action == operate.Pause {
		warnNoSuchChannel(flags.Channel, stderr)
	}
	r := operate.PauseRequest{Action: action, Types: flags.Type, Channels: flags.Channel, By: whoami(), DryRun: true}
	r.By.Reason = flags.Reason
	res, err := o.Pause(ctx, r)
	if err != nil {
		return cannot(stderr, err)
	}
	if !flags.DryRun && len(res.Done) > 0 {
		if !flags.Yes {
			if !t.attended {
				printPauses(stderr, action, true, res)
				return cannot(stderr, errors.New("nothing was done: there is nobody to ask; --yes does it, --dry-run only looks"))
			}
			printPauses(stdout, action, true, res)
			if !t.confirmed(stdout, capital(string(action))+"?") {
				fmt.Fprintln(stdout, "nothing was done")
				return exitCannot
			}
		}
		r.DryRun = false
		if res, err = o.Pause(ctx, r); err != nil {
			return cannot(stderr, err)
		}
	}
	if flags.JSON {
		err := writeJSON(stdout, struct {
			Action operate.Action `json:"action"`
			DryRun bool           `json:"dry_run"`
			operate.PauseResult
		}{action, flags.DryRun, res})
		if err != nil {
			return cannot(stderr, err)
		}
		return exitOK
	}
	printPauses(stdout, action, flags.DryRun, res)
	return exitOK
}

// ownChannels are those that this program has.
var ownChannels = []string{
	string(dispatch.ChannelDiscard), string(dispatch.ChannelEmail), string(dispatch.ChannelHTTP), string(dispatch.ChannelLog),
	string(dispatch.ChannelOpenAI), string(dispatch.ChannelSMS), string(dispatch.ChannelSQL), string(dispatch.ChannelWebhook),
}

// warnNoSuchChannel warns of names that are no channel of this program, which stop nothing of
// its. A program that has the listener as a library may have more, so that they may be paused.
func warnNoSuchChannel(names []string, w io.Writer) {
	for _, name := range names {
		if slices.Contains(ownChannels, name) || name == string(dispatch.ChannelHandler) {
			continue
		}
		meant := near(strings.ToLower(name), ownChannels)
		if meant != "" {
			meant = "did you mean " + meant + "? "
		}
		fmt.Fprintf(w, "warning: listener has no channel %s: %sit has %s\n", printable(name), meant, strings.Join(ownChannels, ", "))
	}
}

func printPauses(w io.Writer, action operate.Action, dry bool, res operate.PauseResult) {
	done := map[operate.Action]string{operate.Pause: "paused", operate.Resume: "resumed"}[action]
	if dry {
		done = "to be " + done
	}
	if len(res.Done) > 0 {
		fmt.Fprintf(w, "%s: %s; %s %s\n", done, list(res.Done), deliveries(res.Deliveries), map[operate.Action]string{operate.Pause: "waiting", operate.Resume: "to go on"}[action])
	}
	if len(res.Unchanged) > 0 {
		was := map[operate.Action]string{operate.Pause: "paused already", operate.Resume: "not paused"}[action]
		fmt.Fprintf(w, "%s: %s\n", was, list(res.Unchanged))
	}
}

func list(pauses []operate.Paused) string {
	var words []string
	for _, p := range pauses {
		words = append(words, p.Kind+" "+printable(p.Pattern))
	}
	return strings.Join(words, ", ")
}

func listPauses(ctx context.Context, o *operate.Operator, asJSON bool, stdout, stderr io.Writer) int {
	all, err := o.Pauses(ctx)
	if err != nil {
		return cannot(stderr, err)
	}
	braked, err := o.Brakes(ctx)
	if err != nil {
		return cannot(stderr, err)
	}
	if asJSON {
		if code := printJSON(all, stdout, stderr); code != exitOK {
			return code
		}
		return printJSON(braked, stdout, stderr)
	}
	printPaused(stdout, all)
	printBraked(stdout, braked)
	return exitOK
}

// printBraked lists where nothing is sent at the moment, and nothing where that is
// nowhere.
func printBraked(w io.Writer, all []operate.Brake) {
	if len(all) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "BRAKED\tSINCE\tNOT BEFORE\tLAST FAILURE")
	for _, b := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", printable(b.Destination), moment(b.Since), moment(b.Until), word(oneLine(b.Reason)))
	}
	_ = t.Flush() // to whoever has gone meanwhile
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

func printPaused(stdout io.Writer, all []operate.Paused) {
	if len(all) == 0 {
		fmt.Fprintln(stdout, "nothing is paused")
		return
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PAUSED\tSINCE\tBY\tREASON")
	for _, p := range all {
		fmt.Fprintf(t, "%s %s\t%s\t%s\t%s\n", p.Kind, printable(p.Pattern), moment(*p.Since), word(p.Who), word(oneLine(p.Reason)))
	}
	_ = t.Flush() // to whoever has gone meanwhile
}
