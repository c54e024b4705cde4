package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Plan is how the database would run a statement.
type Plan struct {
	Columns []string // of the rows that it gives
	Scans   []Scan   // of whole tables
}

// Scan is a table that is read from one end to the other.
type Scan struct {
	Table  string  // with its schema
	Rows   float64 // about, as the statistics have it
	Column string  // that is compared with one value, so that an index of it would serve; "" where there is none, or several
}

// Explain plans q as a lookup without running it: as the role and in the kind of
// transaction that lookups have. The error is a *Fault.
func (r *Reader) Explain(ctx context.Context, q *Query) (p Plan, err error) {
	err = r.Read(ctx, func(tx *Tx) error {
		p, err = explain(ctx, tx.tx, q, prefix, suffix+"2"+end)
		return err
	})
	return p, err
}

// ExplainStatement plans q as an sql step, which may write, without running it.
// The error is a *Fault.
func (r *Reader) ExplainStatement(ctx context.Context, q *Query, role string) (p Plan, err error) {
	conn, err := r.acquire(ctx)
	if err != nil {
		return p, &Fault{Err: err}
	}
	defer conn.Release()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if role != "" {
			if _, err := tx.Exec(ctx, `select set_config('role', $1, true)`, role); err != nil {
				return fault(err, nil, 0, "")
			}
		}
		p, err = explain(ctx, tx, q, "", "")
		if err != nil {
			return err
		}
		return errUndo
	})
	if errors.Is(err, errUndo) {
		err = nil
	}
	return p, err
}

var errUndo = errors.New("nothing is kept")

// explain prepares q, which tells its columns, and has it planned for whatever
// values it may get.
func explain(ctx context.Context, tx pgx.Tx, q *Query, before, after string) (Plan, error) {
	whole := before + q.statement + after
	// No value is bound yet: what the database finds wrong is the statement's.
	asked := func(err error, offset int, text string) error {
		err = fault(err, q, offset, text)
		if bad, ok := errors.AsType[*BadValue](err); ok {
			return &Fault{Err: bad}
		}
		return err
	}
	described, err := tx.Conn().PgConn().Prepare(ctx, "", q.statement, nil)
	if err != nil {
		return Plan{}, asked(err, 0, q.statement)
	}
	var p Plan
	for _, f := range described.Fields {
		p.Columns = append(p.Columns, f.Name)
	}
	const name = "outbox_explain"
	prepare := "prepare " + name + " as "
	for _, text := range []string{"set local plan_cache_mode = force_generic_plan", prepare + whole} {
		if _, err := tx.Conn().PgConn().Exec(ctx, text).ReadAll(); err != nil {
			return Plan{}, asked(err, len(prepare)+len(before), prepare+whole)
		}
	}
	point, err := tx.Begin(ctx) // what was prepared outlives a rollback
	if err != nil {
		return Plan{}, asked(err, 0, "")
	}
	execute := "explain (format json) execute " + name
	if n := len(described.ParamOIDs); n > 0 {
		execute += "(null" + strings.Repeat(", null", n-1) + ")"
	}
	results, failed := tx.Conn().PgConn().Exec(ctx, execute).ReadAll()
	if err := point.Rollback(ctx); err != nil {
		return Plan{}, asked(err, 0, "")
	}
	if _, err := tx.Conn().PgConn().Exec(ctx, "deallocate "+name).ReadAll(); err != nil {
		return Plan{}, asked(err, 0, "")
	}
	if failed != nil {
		return Plan{}, asked(failed, 0, execute)
	}
	var roots []struct {
		Plan node `json:"Plan"`
	}
	if len(results) == 0 || len(results[0].Rows) == 0 || json.Unmarshal(results[0].Rows[0][0], &roots) != nil {
		return Plan{}, &Fault{Err: fmt.Errorf("the database explained nothing")}
	}
	for _, root := range roots {
		root.Plan.tables(func(s Scan) {
			if !slices.ContainsFunc(p.Scans, func(o Scan) bool { return s.Table == o.Table }) {
				p.Scans = append(p.Scans, s)
			}
		})
	}
	for i := range p.Scans {
		if err := tx.QueryRow(ctx, `select oid::regclass::text, greatest(reltuples, 0) from pg_catalog.pg_class where oid = to_regclass($1)`,
			p.Scans[i].Table).Scan(&p.Scans[i].Table, &p.Scans[i].Rows); err != nil {
			return Plan{}, asked(err, 0, "")
		}
	}
	return p, nil
}

// node is a part of a plan, as EXPLAIN gives it.
type node struct {
	Type     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Schema   string `json:"Schema"`
	Filter   string `json:"Filter"`
	Plans    []node `json:"Plans"`
}

// tables calls f for each table that is read whole.
func (n node) tables(f func(Scan)) {
	if n.Type == "Seq Scan" && n.Relation != "" {
		table := pgx.Identifier{n.Relation}.Sanitize()
		if n.Schema != "" {
			table = pgx.Identifier{n.Schema, n.Relation}.Sanitize()
		}
		f(Scan{Table: table, Column: compared(n.Filter)})
	}
	for _, child := range n.Plans {
		child.tables(f)
	}
}

// equality is what a filter that compares one column with one value looks like:
// ((email)::text = $1), (q.id = $2).
var equality = regexp.MustCompile(`^\(\(?(?:[a-z_][a-z0-9_]*\.)?([a-z_][a-z0-9_]*)\)?(?:::[a-z ]+)? = \(?\$[0-9]+\)?(?:::[a-z ]+)?\)$`)

// compared is the column that filter is about, "" where it is not that simple.
func compared(filter string) string {
	if m := equality.FindStringSubmatch(filter); m != nil {
		return m[1]
	}
	return ""
}
