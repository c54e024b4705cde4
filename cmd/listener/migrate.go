package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/migrations"
)

// migrateCmd is `listener migrate`. Kong fills it; runMigrate runs whichever
// of its commands was named, or Up.
type migrateCmd struct {
	Up        migrateUpCmd        `cmd:"" default:"withargs" help:"Create or update what the listener needs in the database (the default). Its flags, such as --backlog, --grant and --print, are under migrate up --help."`
	Status    migrateStatusCmd    `cmd:"" help:"Say what the database has and what it lacks; changes nothing."`
	Uninstall migrateUninstallCmd `cmd:"" help:"Remove our triggers, columns and schema; the application's columns and rows stay."`

	Wait        time.Duration `default:"1m" help:"How long each change keeps trying to get its turn on a busy table."`
	LockTimeout time.Duration `default:"200ms" help:"How long writers may be held up at a time, while a change waits for its turn."`
}

type migrateUpCmd struct {
	Backlog string   `placeholder:"deliver|skip|TIME" help:"What becomes of events that wait already when an existing table is adopted: deliver all, skip all, or deliver those created since a time (2026-11-01T00:00:00Z, 2026-11-01, or 36h for that long ago)."`
	Grant   []string `placeholder:"ROLE" help:"Give this role what the daemon needs and no more. May be repeated."`

	GrantOperator []string `placeholder:"ROLE" help:"Give this role what people need who replay, cancel, hold, release and pause, and no more. May be repeated."`

	Print bool `help:"Print the SQL in place of running it. Needs no database."`
	After int  `placeholder:"VERSION" help:"With --print: leave out what a database at this version has already."`
}

type migrateStatusCmd struct {
	JSON bool `name:"json" help:"Print JSON."`

	chosen bool
}

type migrateUninstallCmd struct {
	Force bool `help:"Go on although listeners are connected or deliveries are not finished."`

	chosen bool
}

// BeforeApply is called by kong when the command was named.
func (c *migrateStatusCmd) BeforeApply() error { c.chosen = true; return nil }

// BeforeApply is called by kong when the command was named.
func (c *migrateUninstallCmd) BeforeApply() error { c.chosen = true; return nil }

// runMigrate runs cmd on the database at databaseURL. Results go to stdout,
// progress and warnings to stderr.
func runMigrate(ctx context.Context, cmd *migrateCmd, databaseURL string, stdout, stderr io.Writer) error {
	backlog, err := migrations.ParseBacklog(cmd.Up.Backlog)
	if err != nil {
		return err
	}
	if cmd.Up.Print {
		return migrations.Print(stdout, migrations.PrintOptions{Backlog: backlog, After: cmd.Up.After})
	}
	if cmd.Up.After != 0 {
		return errors.New("--after goes with --print")
	}
	conn, err := connectMigrator(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	opt := migrations.Options{
		Backlog:     backlog,
		LockTimeout: cmd.LockTimeout,
		Wait:        cmd.Wait,
		Progress:    func(s string) { fmt.Fprintln(stderr, s) },
	}
	switch {
	case cmd.Status.chosen:
		st, err := migrations.Status(ctx, conn)
		if err != nil {
			return err
		}
		return printStatus(stdout, st, cmd.Status.JSON)
	case cmd.Uninstall.chosen:
		removed, err := migrations.Uninstall(ctx, conn, migrations.UninstallOptions{Options: opt, Force: cmd.Uninstall.Force})
		switch {
		case err != nil:
			return err
		case removed:
			fmt.Fprintln(stdout, "removed; the application's columns and rows are as they were")
		default:
			fmt.Fprintln(stdout, "nothing is installed")
		}
		return nil
	}
	rep, err := migrations.Up(ctx, conn, opt)
	printReport(stdout, stderr, rep, err == nil)
	if err != nil {
		return err
	}
	for _, role := range cmd.Up.Grant {
		if err := migrations.Grant(ctx, conn, role); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "role %q has what the daemon needs\n", role)
	}
	for _, role := range cmd.Up.GrantOperator {
		if err := migrations.GrantOperator(ctx, conn, role); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "role %q has what an operator needs\n", role)
	}
	return nil
}

// connectMigrator makes a connection of its own. databaseURL may have pool_*
// parameters, which a plain connection does not understand.
func connectMigrator(ctx context.Context, databaseURL string) (*pgx.Conn, error) {
	if databaseURL == "" {
		return nil, errors.New("DATABASE_URL is not set")
	}
	pool, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err) // without the password: pgx sees to that
	}
	config := pool.ConnConfig.Copy()
	config.RuntimeParams["application_name"] = "outbox-listener migrate"
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 10 * time.Second
	}
	return pgx.ConnectConfig(ctx, config)
}

func printReport(stdout, stderr io.Writer, rep migrations.Report, done bool) {
	for _, w := range rep.Warnings {
		fmt.Fprintln(stderr, "warning: "+w)
	}
	for _, name := range rep.Applied {
		fmt.Fprintln(stdout, "applied "+name)
	}
	if !done {
		return
	}
	waiting := int64(0)
	for _, w := range rep.Waiting {
		waiting += w.Count
	}
	switch {
	case rep.Created:
		fmt.Fprintln(stdout, "created public.outbox_events")
	case rep.Adopted && waiting > 0:
		fmt.Fprintf(stdout, "adopted public.outbox_events; events that waited in it: %d\n", waiting)
	case rep.Adopted:
		fmt.Fprintln(stdout, "adopted public.outbox_events")
	}
	if rep.Placed > 0 {
		fmt.Fprintf(stdout, "waiting events that are to be delivered: %d\n", rep.Placed)
	}
	if len(rep.Applied) == 0 {
		fmt.Fprintf(stdout, "schema outbox is at version %d already\n", rep.To)
	} else {
		fmt.Fprintf(stdout, "schema outbox is at version %d\n", rep.To)
	}
}

func printStatus(stdout io.Writer, st migrations.Installed, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(st)
	}
	verdict := "up to date"
	switch {
	case st.Version == 0:
		verdict = "not installed: run `listener migrate`"
	case st.Version > st.Latest:
		verdict = "newer than this binary: update listener"
	case !st.UpToDate:
		verdict = "not up to date: run `listener migrate`"
	}
	fmt.Fprintf(stdout, "version %d of %d, %s\n\n", st.Version, st.Latest, verdict)
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, f := range st.Files {
		at := ""
		if !f.AppliedAt.IsZero() {
			at = f.AppliedAt.UTC().Format("2006-01-02 15:04:05Z")
		}
		fmt.Fprintln(t, strings.TrimRight(fmt.Sprintf("%s\t%s\t%s", f.Name, f.State, at), "\t"))
	}
	for _, tr := range st.Triggers {
		fmt.Fprintf(t, "trigger %s\t%s\n", tr.Name, tr.State)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if st.Backlog != "" {
		fmt.Fprintf(stdout, "\nadopted %s; %s\n", st.AdoptedAt.UTC().Format("2006-01-02 15:04:05Z"), backlogLine(st))
	}
	for _, p := range st.Problems {
		fmt.Fprintln(stdout, "\nproblem: "+p)
	}
	return nil
}

func backlogLine(st migrations.Installed) string {
	line := "what waited then is delivered"
	if !st.BacklogSince.IsZero() {
		line = "events that waited then, if any, and were created before " + st.BacklogSince.UTC().Format("2006-01-02 15:04:05Z") + " are left alone"
	}
	if !st.BacklogDone {
		line += " (not all have their places yet: run `listener migrate`)"
	}
	return line
}
