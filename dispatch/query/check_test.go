package query_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch/query"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// scanned explains a lookup, and wants exactly one scan.
func scanned(t *testing.T, r *query.Reader, sql string) query.Scan {
	t.Helper()
	p, err := r.Explain(t.Context(), parse(t, sql))
	if err != nil || len(p.Scans) != 1 {
		t.Fatalf("%s: %+v, %v", sql, p, err)
	}
	return p.Scans[0]
}

// TestExplainOtherSchemas: tables need not be in the search path, nor in a schema
// that the role may look into, and two of one name are two.
func TestExplainOtherSchemas(t *testing.T) {
	t.Parallel()
	db, r := quotes(t)
	pgtest.Exec(t, db, `create schema app`)
	pgtest.Exec(t, db, `create table app."Quotes 2" (id int, note text, "byWhom" text)`)
	pgtest.Exec(t, db, `create table app.quotes (id int, note text)`)
	pgtest.Exec(t, db, `insert into app."Quotes 2" select n, 'x', null from generate_series(1, 500) as n`)
	pgtest.Exec(t, db, `analyze app."Quotes 2"`)
	if s := scanned(t, r, `select id from app."Quotes 2" where note = :note`); s.Table != `app."Quotes 2"` || s.Rows != 500 || s.Column != "note" {
		t.Errorf("%+v", s)
	}
	if s := scanned(t, r, `select id from app."Quotes 2" where "byWhom" = :who`); s.Column != `"byWhom"` {
		t.Errorf("%+v", s)
	}
	p, err := r.Explain(t.Context(), parse(t, `select a.id from app.quotes a join quotes b on a.note = b.note where a.note > :note`))
	var tables []string
	for _, s := range p.Scans {
		tables = append(tables, s.Table)
	}
	slices.Sort(tables)
	if err != nil || !slices.Equal(tables, []string{"app.quotes", "quotes"}) {
		t.Errorf("%v, %v", tables, err)
	}
	role := pgtest.Role(t, db, "viewer")
	pgtest.Exec(t, db, `create view seen as select id, note from app."Quotes 2"`)
	pgtest.Exec(t, db, `grant select on seen to `+role)
	r.Role = role
	if s := scanned(t, r, `select * from seen where note = :note`); s.Table != `app."Quotes 2"` {
		t.Errorf("%+v", s)
	}
}

// TestExplainSizes: how large a table is shows also where nobody has analyzed it,
// where it has grown since, and where it is made of partitions.
func TestExplainSizes(t *testing.T) {
	t.Parallel()
	db, r := quotes(t)
	pgtest.Exec(t, db, `create table fresh (id int, n int) with (autovacuum_enabled = off)`)
	pgtest.Exec(t, db, `insert into fresh select n, n from generate_series(1, 20000) as n`)
	if s := scanned(t, r, `select id from fresh where n = :n`); s.Rows < 10000 || s.Rows > 40000 {
		t.Errorf("never analyzed: %+v", s)
	}
	pgtest.Exec(t, db, `create table grown (id int, n int) with (autovacuum_enabled = off)`)
	pgtest.Exec(t, db, `insert into grown select n, n from generate_series(1, 1000) as n`)
	pgtest.Exec(t, db, `analyze grown`)
	pgtest.Exec(t, db, `insert into grown select n, n from generate_series(1, 19000) as n`)
	if s := scanned(t, r, `select id from grown where n = :n`); s.Rows < 15000 || s.Rows > 25000 {
		t.Errorf("grown: %+v", s)
	}
	pgtest.Exec(t, db, `create table parts (id int, n int) partition by list (n)`)
	for _, one := range []string{
		`create table parts_1 partition of parts for values in (1)`, `create table parts_2 partition of parts for values in (2)`,
		`create table parts_3 partition of parts for values in (3) partition by list (n)`, `create table parts_3_3 partition of parts_3 for values in (3)`,
		`insert into parts select i, 1 + i % 3 from generate_series(1, 9000) as i`, `analyze parts`,
	} {
		pgtest.Exec(t, db, one)
	}
	if s := scanned(t, r, `select id from parts where id = :id`); s.Table != "parts" || s.Rows != 9000 || s.Column != "id" {
		t.Errorf("partitions: %+v", s)
	}
}

// TestExplainLocks: a lookup that locks rows would fail each time it is run, since
// its transaction is READ ONLY; so it does when it is explained.
func TestExplainLocks(t *testing.T) {
	t.Parallel()
	_, r := quotes(t)
	for _, tail := range []string{"for update", "for share", "for key share skip locked"} {
		const sql = `select id from quotes where total > 0 `
		_, ran := rows(t, r, sql+tail, nil, 1)
		_, explained := r.Explain(t.Context(), parse(t, sql+tail))
		var f *query.Fault
		if !errors.As(ran, &f) || f.Code != "25006" {
			t.Errorf("%s: run: %v", tail, ran)
		}
		if f = nil; !errors.As(explained, &f) || f.Code != "25006" {
			t.Errorf("%s: explained: %v", tail, explained)
		}
		if _, err := r.ExplainStatement(t.Context(), parse(t, sql+tail), ""); err != nil {
			t.Errorf("%s as an sql step, which may: %v", tail, err)
		}
	}
}

// TestExplainCall: the database plans no call, but it knows whether there is such a
// procedure. Nothing is called.
func TestExplainCall(t *testing.T) {
	t.Parallel()
	db, r := quotes(t)
	pgtest.Exec(t, db, `create procedure note(q uuid, body text) language sql as $$ update quotes set note = body where id = q $$`)
	if p, err := r.ExplainStatement(t.Context(), parse(t, `/* as it was */ CALL note(:quoteId::uuid, :body)`), ""); err != nil || len(p.Scans) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	var f *query.Fault
	if _, err := r.ExplainStatement(t.Context(), parse(t, `call nte(:quoteId::uuid, :body)`), ""); !errors.As(err, &f) || f.Code != "42883" || f.Column != 6 {
		t.Errorf("%+v, %v", f, err)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from quotes where note is not null`); n != 1 {
		t.Errorf("%d rows have a note: something was called", n)
	}
}

// TestExplainLocked: where somebody holds a table, explaining ends all the same.
func TestExplainLocked(t *testing.T) {
	t.Parallel()
	db, r := quotes(t)
	r.Timeout = 200 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tx, err := db.Pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, `lock table quotes in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	q := parse(t, `update quotes set note = :note where id = :id`)
	var f *query.Fault
	if _, err := r.ExplainStatement(ctx, q, ""); !errors.As(err, &f) || f.Code != "57014" {
		t.Errorf("%v", err)
	}
	if _, err := r.Explain(ctx, parse(t, `select id from quotes`)); !errors.As(err, &f) || f.Code != "57014" {
		t.Errorf("%v", err)
	}
}
