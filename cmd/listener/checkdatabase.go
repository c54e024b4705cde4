package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch/query"
	"github.com/outbox-listener/outbox-listener/dispatch/routes"
	"github.com/outbox-listener/outbox-listener/migrations"
)

// database checks that the database is there and migrated, and has it plan what the
// routes ask of it.
func (c *checkup) database(ctx context.Context) {
	if c.cfg.DatabaseURL == "" {
		c.looked("database", "not checked") // why is among the problems
		return
	}
	pool, err := newLookupPool(ctx, c.cfg)
	if err != nil {
		c.problem("%v", err)
		c.looked("database", "not checked")
		return
	}
	defer pool.Close()
	if err := pinged(ctx, pool); err != nil {
		c.problem("DATABASE_URL: the database cannot be worked with: %v", err)
		c.looked("database", "not checked")
		return
	}
	schema := "migrated"
	if err := checkedSchema(ctx, pool); err != nil {
		c.problem("DATABASE_URL: the database is not ready: %v", err)
		schema = "not ready"
	} else if c.cfg.RetainProcessed > 0 {
		c.deletes(ctx, pool)
	}
	if excess, err := migrations.Excess(ctx, pool); err == nil && excess != "" {
		c.findings = append(c.findings, finding{Severity: warning, Message: "DATABASE_URL: " + excess})
	}
	if c.routes == nil {
		c.looked("database", "%s", schema)
		return
	}
	c.lookups(ctx, pool)
	c.statements(ctx, pool)
	c.looked("database", "%s; %s and %s planned", schema, counted(len(c.routes.Lookups()), "lookup"), counted(len(c.routes.Statements()), "sql step"))
}

// deletes notes that the events that are to be deleted after a while cannot be.
func (c *checkup) deletes(ctx context.Context, pool *pgxpool.Pool) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	var role string
	var may bool
	err := pool.QueryRow(ctx, `select pg_catalog.quote_ident(current_user), pg_catalog.has_table_privilege('public.outbox_events', 'DELETE')`).Scan(&role, &may)
	switch {
	case err != nil:
		c.problem("OUTBOX_RETAIN_PROCESSED: whether the role may delete events is not known: %v", err)
	case !may:
		c.problem("OUTBOX_RETAIN_PROCESSED: the role %s may not delete events: grant delete on public.outbox_events to %s, or unset the variable", role, role)
	}
}

func pinged(ctx context.Context, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return pool.Ping(ctx)
}

func checkedSchema(ctx context.Context, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return migrations.Check(ctx, pool)
}

// nothing is a statement that anybody may run.
var nothing = func() *query.Query {
	q, err := query.Parse("select 1 as one")
	if err != nil {
		panic(err)
	}
	return q
}()

// lookups has each lookup planned, and compares its columns with what texts use.
func (c *checkup) lookups(ctx context.Context, pool *pgxpool.Pool) {
	role, timeout := c.routes.LookupRole()
	r := &query.Reader{Pool: pool, Role: role, Timeout: timeout}
	if _, err := r.Explain(ctx, nothing); err != nil && role != "" {
		c.problemAt(routes.Place{}, "lookups cannot run as the role %s: %v; they were checked as the role of DATABASE_URL", role, err)
		r.Role = ""
	}
	known := map[[2]string][]string{}
	for _, l := range c.routes.Lookups() {
		p, err := r.Explain(ctx, l.Query)
		if err != nil {
			c.fault("lookup "+l.Name, l.At, err)
			continue
		}
		known[[2]string{l.Route, l.Name}] = p.Columns
		c.scans("lookup "+l.Name, l.At, p)
	}
	c.columns(known)
}

// statements has the statement of each sql step planned.
func (c *checkup) statements(ctx context.Context, pool *pgxpool.Pool) {
	role := c.routes.SQLRole()
	r := &query.Reader{Pool: pool}
	if _, err := r.ExplainStatement(ctx, nothing, role); err != nil && role != "" {
		c.problemAt(routes.Place{}, "sql steps cannot run as the role %s: %v; they were checked as the role of DATABASE_URL", role, err)
		role = ""
	}
	for _, s := range c.routes.Statements() {
		p, err := r.ExplainStatement(ctx, s.Query, role)
		if err != nil {
			c.fault("sql step "+s.Step, s.At, err)
			continue
		}
		c.scans("sql step "+s.Step, s.At, p)
	}
}

// fault notes what the database says against a statement, at its place.
func (c *checkup) fault(what string, at func(line, column int) routes.Place, err error) {
	f, ok := errors.AsType[*query.Fault](err)
	if !ok {
		f = &query.Fault{Err: err}
	}
	mend := remedy(f.Code)
	if f.Code == syntaxError && strings.HasPrefix(what, "lookup ") {
		mend = "; a lookup is one query that reads: a select"
	}
	c.problemAt(at(f.Line, f.Column), "the %s cannot be run: %v%s", what, f.Err, mend)
}

// syntaxError is the code of a statement that Postgres cannot read. It has that for
// an update, too, where only a query can stand.
const syntaxError = "42601"

// remedy is how to mend what the database found, where that is not plain.
func remedy(code string) string {
	switch code {
	case "42501":
		return "; grant the role what it needs, or set lookups.role or lookups.sql_role"
	case "42P01":
		return "; create the table, or name another one"
	case "42703":
		return "; use a column that there is"
	case "25006":
		return "; a lookup reads only: leave out what writes or locks, or make an sql step of it"
	case "57014":
		return "; somebody may hold a lock on a table of it: try again"
	case "42P18":
		return "; give the parameter a type with a cast, such as :name::text"
	}
	return ""
}

// scans warns of large tables that are read whole.
func (c *checkup) scans(what string, at func(line, column int) routes.Place, p query.Plan) {
	for _, s := range p.Scans {
		if s.Rows <= c.cmd.Large {
			continue
		}
		mend := "; an index would help"
		if s.Column != "" {
			mend = fmt.Sprintf("; an index on %s (%s) would help", s.Table, s.Column)
		}
		c.warnAt(at(0, 0), "the %s reads all of %s, about %s rows%s", what, s.Table, grouped(s.Rows), mend)
	}
}

// grouped is n with a comma before each group of three digits.
func grouped(n float64) string {
	digits := fmt.Sprintf("%.0f", n)
	var parts []string
	for len(digits) > 3 {
		parts = append(parts, digits[len(digits)-3:])
		digits = digits[:len(digits)-3]
	}
	slices.Reverse(parts)
	return strings.Join(append([]string{digits}, parts...), ",")
}
