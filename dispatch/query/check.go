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

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Plan is how the database would run a statement.
type Plan struct {
	Columns []string // of the rows that it gives
	Scans   []Scan   // of whole tables
}

// Scan is a table that is read from one end to the other.
type Scan struct {
	Table  string  // as one writes it, with its schema where that is needed; of partitions, the table that they are of
	Rows   float64 // about: by the statistics and the size on disk, of all its partitions that are read
	Column string  // that is compared with one value, so that an index of it would serve; "" where there is none, or several
}

// Explain plans q as a lookup without running it: as the role and in the kind of
// transaction that lookups have. The error is a *Fault.
func (r *Reader) Explain(ctx context.Context, q *Query) (p Plan, err error) {
	err = r.Read(ctx, func(tx *Tx) error {
		var locks bool
		p, locks, err = explain(ctx, tx.tx, q, prefix, suffix+"2"+end)
		if err == nil && locks { // which the database says only once it is run
			err = &Fault{Code: readOnly, Err: errors.New("it locks rows, which is not allowed in a READ ONLY transaction (SQLSTATE " + readOnly + ")")}
		}
		return err
	})
	return p, err
}

// readOnly is the SQLSTATE of what a READ ONLY transaction may not do.
const readOnly = "25006"

// ExplainStatement plans q as an sql step, which may write, without running it. Of
// a call it finds out only whether there is such a procedure. The error is a *Fault.
func (r *Reader) ExplainStatement(ctx context.Context, q *Query, role string) (p Plan, err error) {
	conn, err := r.acquire(ctx)
	if err != nil {
		return p, &Fault{Err: err}
	}
	defer conn.Release()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select set_config('statement_timeout', $1, true), set_config('role', case when $2 = '' then current_setting('role') else $2 end, true)`,
			fmt.Sprint(r.timeout().Milliseconds()), role); err != nil {
			return fault(err, nil, 0, "")
		}
		if (dispatch.SQL{Statement: q.statement}).Calls() {
			if _, err = tx.Conn().PgConn().Prepare(ctx, "", q.statement, nil); err != nil {
				return asFault(err, q, 0, q.statement)
			}
			return errUndo
		}
		if p, _, err = explain(ctx, tx, q, "", ""); err != nil {
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

// asFault is fault where no value is bound yet: what the database finds wrong is
// the statement's.
func asFault(err error, q *Query, offset int, text string) error {
	err = fault(err, q, offset, text)
	if bad, ok := errors.AsType[*BadValue](err); ok {
		return &Fault{Err: bad}
	}
	return err
}

// explain prepares q, which tells its columns, and has it planned for whatever
// values it may get. locks reports whether it would lock rows.
func explain(ctx context.Context, tx pgx.Tx, q *Query, before, after string) (p Plan, locks bool, err error) {
	whole := before + q.statement + after
	asked := func(err error, offset int, text string) (Plan, bool, error) {
		return Plan{}, false, asFault(err, q, offset, text)
	}
	described, err := tx.Conn().PgConn().Prepare(ctx, "", q.statement, nil)
	if err != nil {
		return asked(err, 0, q.statement)
	}
	for _, f := range described.Fields {
		p.Columns = append(p.Columns, f.Name)
	}
	const name = "outbox_explain"
	prepare := "prepare " + name + " as "
	for _, text := range []string{"set local plan_cache_mode = force_generic_plan", prepare + whole} {
		if _, err := tx.Conn().PgConn().Exec(ctx, text).ReadAll(); err != nil {
			return asked(err, len(prepare)+len(before), prepare+whole)
		}
	}
	point, err := tx.Begin(ctx) // what was prepared outlives a rollback
	if err != nil {
		return asked(err, 0, "")
	}
	execute := "explain (format json, verbose) execute " + name // verbose tells schemas
	if n := len(described.ParamOIDs); n > 0 {
		execute += "(null" + strings.Repeat(", null", n-1) + ")"
	}
	results, failed := tx.Conn().PgConn().Exec(ctx, execute).ReadAll()
	if err := point.Rollback(ctx); err != nil {
		return asked(err, 0, "")
	}
	if _, err := tx.Conn().PgConn().Exec(ctx, "deallocate "+name).ReadAll(); err != nil {
		return asked(err, 0, "")
	}
	if failed != nil {
		return asked(failed, 0, execute)
	}
	var roots []struct {
		Plan node `json:"Plan"`
	}
	if len(results) == 0 || len(results[0].Rows) == 0 || json.Unmarshal(results[0].Rows[0][0], &roots) != nil {
		return Plan{}, false, &Fault{Err: fmt.Errorf("the database explained nothing")}
	}
	var found []relation
	for _, root := range roots {
		root.Plan.each(func(n node) {
			locks = locks || n.Type == "LockRows"
			if n.Type == "Seq Scan" && n.Relation != "" && !slices.ContainsFunc(found, n.is) {
				found = append(found, relation{n.Schema, n.Relation, compared(n.Filter)})
			}
		})
	}
	for _, f := range found {
		s := Scan{Column: f.column}
		if err := tx.QueryRow(ctx, sizeOf, f.schema, f.name).Scan(&s.Table, &s.Rows); err != nil {
			return asked(err, 0, "")
		}
		if i := slices.IndexFunc(p.Scans, func(o Scan) bool { return o.Table == s.Table }); i >= 0 {
			p.Scans[i].Rows += s.Rows // another partition
		} else {
			p.Scans = append(p.Scans, s)
		}
	}
	return p, locks, nil
}

// relation is a table that a plan reads whole.
type relation struct{ schema, name, column string }

// sizeOf has about how many rows a table has, and the table that it is a partition
// of. It asks the catalog, which everybody may read: the one who explains a view
// need not have rights to the tables in it, nor to their schema.
//
// As the planner does, it trusts the statistics for how many rows a page has, and
// the file for how many pages there are. Where there are no statistics, a row is as
// wide as its columns, those without a fixed width being 32 bytes, and a header.
const sizeOf = `
	select coalesce(pg_catalog.pg_partition_root(c.oid)::regclass, c.oid::regclass)::text,
	       pg_catalog.pg_relation_size(c.oid) / b.size * case
	           when c.relpages > 0 and c.reltuples >= 0 then c.reltuples / c.relpages
	           else b.size / (28 + (select coalesce(sum(case when a.attlen > 0 then a.attlen else 32 end), 0) from pg_catalog.pg_attribute as a
	                                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped))
	       end::float8
	from pg_catalog.pg_class as c
	join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
	cross join (select current_setting('block_size')::float8 as size) as b
	where n.nspname = $1 and c.relname = $2`

// node is a part of a plan, as EXPLAIN gives it.
type node struct {
	Type     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Schema   string `json:"Schema"`
	Filter   string `json:"Filter"`
	Plans    []node `json:"Plans"`
}

func (n node) is(r relation) bool { return n.Schema == r.schema && n.Relation == r.name }

// each calls f for n and all nodes within it.
func (n node) each(f func(node)) {
	f(n)
	for _, child := range n.Plans {
		child.each(f)
	}
}

// equality is what a filter that compares one column with one value looks like:
// ((email)::text = $1), (q.id = $2).
var equality = regexp.MustCompile(`^\(\(?(?:` + word + `\.)?(` + word + `)\)?(?:::[a-z ]+)? = \(?\$[0-9]+\)?(?:::[a-z ]+)?\)$`)

// word is a name, in quotes where it needs them.
const word = `(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+")`

// compared is the column that filter is about, "" where it is not that simple.
func compared(filter string) string {
	if m := equality.FindStringSubmatch(filter); m != nil {
		return m[1]
	}
	return ""
}
