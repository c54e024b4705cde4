package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// filterFlags name deliveries.
type filterFlags struct {
	IDs     []string   `arg:"" optional:"" name:"delivery-id" help:"These deliveries."`
	State   givenNames `placeholder:"STATE" help:"In this state; several are separated by commas."`
	Type    givenNames `placeholder:"TYPE" help:"Of events of this type, or of quote.* for all that begin so."`
	Channel givenNames `placeholder:"NAME" help:"On this channel."`
	Error   givenWord  `placeholder:"WORDS" help:"With these words in the last error."`
	Since   givenWord  `placeholder:"TIME" help:"Dead, held, finished or made since: 2026-12-01T09:00:00Z, 2026-12-01, or 36h for that long ago."`
	Until   givenWord  `placeholder:"TIME" help:"And before."`
	Limit   int        `placeholder:"N" help:"The newest N of them."`
}

// givenNames and givenWord are values of flags that narrow down what a command is about. With
// nothing in it, as where a script's variable is not set, such a flag would narrow
// nothing: it is refused.
type (
	givenNames []string
	givenWord  string
)

// AfterApply is called by kong where the flag was given.
func (n givenNames) AfterApply(p *kong.Path) error { return notEmpty(p, len(n)) }

// AfterApply is called by kong where the flag was given.
func (w givenWord) AfterApply(p *kong.Path) error { return notEmpty(p, len(w)) }

func notEmpty(p *kong.Path, length int) error {
	if length == 0 {
		return fmt.Errorf("--%s is empty, which fits nothing; without it everything fits", p.Flag.Name)
	}
	return nil
}

func (f *filterFlags) filter(now time.Time) (operate.Filter, error) {
	out := operate.Filter{Types: f.Type, Channels: f.Channel, Error: string(f.Error), Limit: f.Limit}
	for _, text := range f.IDs {
		id, err := uuid.Parse(text)
		if err != nil || len(text) != 36 {
			return out, fmt.Errorf("%q is no id of a delivery, which is a uuid", short100(printable(text)))
		}
		out.IDs = append(out.IDs, id)
	}
	for _, s := range f.State {
		out.States = append(out.States, dispatch.State(s))
	}
	var err error
	if out.Since, err = momentAgo("--since", string(f.Since), now); err != nil {
		return out, err
	}
	out.Until, err = momentAgo("--until", string(f.Until), now)
	return out, err
}

// momentAgo reads a time, a date, or how long ago; "" is zero.
func momentAgo(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%s=%s is not a time like 2026-12-01T09:00:00Z, a date like 2026-12-01, or an age like 36h", flag, short100(printable(text)))
}

// deliveriesCmd is `listener deliveries`.
type deliveriesCmd struct {
	filterFlags
	JSON bool `name:"json" help:"Print JSON, one delivery a line."`
}

// Help is printed by kong.
func (deliveriesCmd) Help() string {
	return `Newest first, and at most 100 unless --limit says otherwise. What is dead or held is found by an index; anything else
without ids may take a walk through the ledger.`
}

// Validate is called by kong.
func (c deliveriesCmd) Validate() error {
	_, err := c.filter(time.Now())
	return err
}

// changeFlags are those of the commands that change deliveries.
type changeFlags struct {
	filterFlags
	DryRun bool   `help:"Say what would be done. Nothing is changed."`
	Yes    bool   `short:"y" help:"Do not ask."`
	Reason string `placeholder:"WORDS" help:"Why, for the audit."`
	JSON   bool   `name:"json" help:"Print JSON. Goes with --yes or --dry-run."`
}

// Validate is called by kong.
func (c changeFlags) Validate() error {
	f, err := c.filter(time.Now())
	switch {
	case err != nil:
		return err
	case len(f.IDs)+len(f.Types)+len(f.Channels)+len(f.States) == 0 && f.Error == "" && f.Since.IsZero() && f.Until.IsZero():
		return errors.New("say which: ids, or --type, --channel, --state, --error, --since, --until")
	case c.JSON && !c.Yes && !c.DryRun:
		return errors.New("--json goes with --yes or --dry-run")
	}
	return nil
}

type replayCmd struct {
	changeFlags
	EvenDelivered bool    `help:"Also what was delivered: whoever it is for gets it twice."`
	EvenUncertain bool    `help:"Also what may have arrived."`
	Rate          float64 `default:"10" placeholder:"N" help:"How many are due each second; 0 for all at once."`
}

// Help is printed by kong.
func (replayCmd) Help() string {
	return `Each gets a new id and all its attempts, and what is sent is what was to be sent then. Where the ledger does not keep
that (of what was delivered or skipped), its event is planned anew.`
}

// Validate is called by kong.
func (c replayCmd) Validate() error {
	if c.Rate < 0 {
		return errors.New("--rate has to be 0 or more")
	}
	return c.changeFlags.Validate()
}

func (c *replayCmd) request() operate.Request {
	r := operate.Request{Action: operate.Replay, EvenDelivered: c.EvenDelivered, EvenUncertain: c.EvenUncertain, Rate: c.Rate}
	if c.Rate == 0 {
		r.Rate = -1
	}
	return r
}

type cancelCmd struct{ changeFlags }

type holdCmd struct{ changeFlags }

type releaseCmd struct {
	changeFlags
	EvenUncertain bool `help:"Also what may have arrived."`
}

// openOperator connects to the configured database; what is wrong it says on
// stderr. close is to be called where ok is true.
func openOperator(ctx context.Context, s settings, stderr io.Writer) (o *operate.Operator, done func(), ok bool) {
	cfg, problems := readDatabaseConfig(s)
	if len(problems) > 0 {
		complain(stderr, problems)
		return nil, nil, false
	}
	fail := func(err error) (*operate.Operator, func(), bool) {
		fmt.Fprintln(stderr, "listener: "+oneLine(err.Error()))
		return nil, nil, false
	}
	if cfg.DatabaseURL == "" {
		return fail(errors.New("DATABASE_URL is not set"))
	}
	pc, err := parseDatabase(cfg.DatabaseURL, cfg.DatabaseSSL)
	if err != nil {
		return fail(fmt.Errorf("DATABASE_URL %w", err))
	}
	pc.ConnConfig.RuntimeParams["application_name"] = applicationName + " operator"
	pc.MinConns, pc.MaxConns = 0, 1
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return fail(err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return fail(fmt.Errorf("cannot work with the database: %w", err))
	}
	return operate.New(pool), pool.Close, true
}

// runDeliveries lists deliveries and returns the exit code.
func runDeliveries(ctx context.Context, cmd *deliveriesCmd, s settings, stdout, stderr io.Writer) int {
	f, err := cmd.filter(time.Now())
	if err != nil {
		return cannot(stderr, err)
	}
	o, done, ok := openOperator(ctx, s, stderr)
	if !ok {
		return exitCannot
	}
	defer done()
	list, err := o.List(ctx, f)
	if err != nil {
		return cannot(stderr, err)
	}
	if cmd.JSON {
		return printJSON(list, stdout, stderr)
	}
	printDeliveries(stdout, list)
	printMore(stdout, "the newest %d", len(list), f.Limit)
	return exitOK
}

// printJSON prints each of list as a line of JSON, and returns the exit code.
func printJSON[T any](list []T, stdout, stderr io.Writer) int {
	for _, v := range list {
		if err := writeJSON(stdout, v); err != nil {
			return cannot(stderr, err)
		}
	}
	return exitOK
}

// writeJSON writes v as a line of JSON in which <, > and & stand for themselves.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// printMore says, where a list has as many as its limit, that there may be more than these; 0
// is the default limit.
func printMore(stdout io.Writer, these string, listed, limit int) {
	if limit = cmp.Or(limit, operate.DefaultLimit); listed == limit {
		fmt.Fprintf(stdout, "\n"+these+"; there may be more (--limit)\n", limit)
	}
}

func cannot(stderr io.Writer, err error) int {
	fmt.Fprintln(stderr, "listener: "+explained(err))
	return exitCannot
}

// explained is err in one line, with what to do about it.
func explained(err error) string {
	text := oneLine(err.Error())
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return text
	}
	switch pg.Code {
	case "3F000", "42P01", "42703", "42883": // no such schema, table, column, function
		text += ": run `listener migrate`"
	case "42501":
		text += ": run `listener migrate --grant-operator ROLE` as the owner"
	case "55P03":
		text += ": somebody else has locked rows; try again"
	}
	return text
}

// runChange does what r asks for to the deliveries that flags name, once that is
// confirmed, and returns the exit code.
func runChange(ctx context.Context, r operate.Request, flags *changeFlags, s settings, stdout, stderr io.Writer) int {
	return change(ctx, r, flags, s, terminal{os.Stdin, isTerminal(os.Stdin) && isTerminal(stdout)}, stdout, stderr)
}

// terminal is where somebody may be asked.
type terminal struct {
	in       io.Reader
	attended bool
}

// confirmed asks, and reports whether the answer is yes.
func (t terminal) confirmed(stdout io.Writer, question string) bool {
	fmt.Fprintf(stdout, "%s [y/N] ", question)
	line, _ := bufio.NewReader(t.in).ReadString('\n')
	return slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(line)))
}

func change(ctx context.Context, r operate.Request, flags *changeFlags, s settings, t terminal, stdout, stderr io.Writer) int {
	var err error
	if r.Filter, err = flags.filter(time.Now()); err != nil {
		return cannot(stderr, err)
	}
	r.By = whoami()
	r.By.Reason = flags.Reason
	o, done, ok := openOperator(ctx, s, stderr)
	if !ok {
		return exitCannot
	}
	defer done()

	// What is confirmed is what is looked at, and no more: others that come to
	// fit the filter meanwhile are left alone.
	look := r
	look.DryRun = true
	res, err := o.Do(ctx, look)
	if err != nil {
		return cannot(stderr, err)
	}
	if !flags.DryRun && res.Done > 0 {
		switch {
		case flags.Yes:
		case !t.attended:
			printPlan(stderr, r.Action, res)
			return cannot(stderr, errors.New("nothing was done: there is nobody to ask; --yes does it, --dry-run only looks"))
		default:
			printPlan(stdout, r.Action, res)
			if !t.confirmed(stdout, fmt.Sprintf("%s %s?", capital(string(r.Action)), deliveries(res.Done))) {
				fmt.Fprintln(stdout, "nothing was done")
				return exitCannot
			}
		}
		asked := res
		r.Only = asked.IDs
		res, err = o.Do(ctx, r)
		res.Matched, res.Refused = asked.Matched, append(asked.Refused, res.Refused...)
		if err != nil {
			fmt.Fprintf(stderr, "listener: broke off after %s: %s\n", deliveries(res.Done), explained(err))
			return exitCannot
		}
	}
	if flags.JSON {
		if err := writeJSON(stdout, changeJSON{r.Action, flags.DryRun, res}); err != nil {
			return cannot(stderr, err)
		}
	} else {
		printChange(stdout, r, flags.DryRun, res)
	}
	if len(flags.IDs) > 0 && len(res.Refused) > 0 {
		return exitFailures
	}
	return exitOK
}

type changeJSON struct {
	Action operate.Action `json:"action"`
	DryRun bool           `json:"dry_run"`
	operate.Result
}

// whoami is who runs this command.
func whoami() operate.By {
	by := operate.By{Who: "unknown", Via: "command"}
	if u, err := user.Current(); err == nil {
		by.Who = u.Username
	}
	if name := os.Getenv("SUDO_USER"); name != "" {
		by.Who = name + " as " + by.Who
	}
	by.Origin, _ = os.Hostname() // "" where it has none
	return by
}
