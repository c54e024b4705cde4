package query_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch/query"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func parse(t *testing.T, sql string) *query.Query {
	t.Helper()
	q, err := query.Parse(sql)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func rows(t *testing.T, r *query.Reader, sql string, args map[string]json.RawMessage, most int) ([]json.RawMessage, error) {
	t.Helper()
	var out []json.RawMessage
	err := r.Read(t.Context(), func(tx *query.Tx) (err error) {
		out, err = tx.Rows(t.Context(), parse(t, sql), args, most)
		return err
	})
	return out, err
}

func quotes(t *testing.T) (*pgtest.DB, *query.Reader) {
	t.Helper()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `create table quotes (id uuid primary key, total numeric, tags text[], at timestamptz, doc jsonb, note text)`)
	pgtest.Exec(t, db, `insert into quotes values
		('00000000-0000-4000-8000-000000000001', 1234.50, '{a,b}', '2026-01-02 03:04:05.678+00', '{"n": 1.10}', null),
		('00000000-0000-4000-8000-000000000002', 0.00, '{}', null, null, 'second')`)
	return db, &query.Reader{Pool: db.Pool}
}

// TestRows: rows come as JSON with exact numbers, parameters of every type are
// read from text, and there is one row more where more would be.
func TestRows(t *testing.T) {
	t.Parallel()
	_, r := quotes(t)
	got, err := rows(t, r, `select total, tags, at, doc, note from quotes where id = :quoteId and total > :least and :t::boolean; -- one`,
		map[string]json.RawMessage{"quoteId": json.RawMessage(`"00000000-0000-4000-8000-000000000001"`), "least": json.RawMessage(`1.5`), "t": json.RawMessage(`true`)}, 1)
	want := `{"at": "2026-01-02T03:04:05.678+00:00", "doc": {"n": 1.10}, "note": null, "tags": ["a", "b"], "total": 1234.50}`
	if err != nil || len(got) != 1 || string(got[0]) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	list := json.RawMessage(`["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"]`)
	got, err = rows(t, r, `select note from quotes where id = any(:ids::uuid[]) order by total`, map[string]json.RawMessage{"ids": list}, 1)
	if err != nil || len(got) != 2 || string(got[0]) != `{"note": "second"}` {
		t.Errorf("%s, %v", got, err)
	}
	got, err = rows(t, r, `select 1 from quotes where id = :id`, nil, 1)
	if err != nil || len(got) != 0 {
		t.Errorf("with null: %s, %v", got, err)
	}
}

// TestFaults: what will never fit is told from what may be mended, where in the
// statement it is, and without the value.
func TestFaults(t *testing.T) {
	t.Parallel()
	_, r := quotes(t)
	r.Timeout = 200 * time.Millisecond
	bad := map[string]json.RawMessage{"id": json.RawMessage(`"Ann's secret"`)}
	_, err := rows(t, r, `select 1 from quotes where id = :id`, bad, 1)
	var value *query.BadValue
	if !errors.As(err, &value) || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "type uuid") {
		t.Errorf("a value: %v", err)
	}
	var named *query.Fault
	_, err = rows(t, r, `select set_config(:id, 'x', true)`, bad, 1)
	if !errors.As(err, &named) || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "configuration parameter") {
		t.Errorf("a value that is used as a name: %v", err)
	}
	for _, tt := range []struct {
		sql, code    string
		line, column int
	}{
		{"select *\nfrom quotes where id = :id and totl > :id", "42703", 2, 32},
		{"select 1 from nothing", "42P01", 1, 15},
		{"select pg_sleep(5)", "57014", 0, 0},
		{"select nextval('public.outbox_events_seq_seq')", "25006", 0, 0},
		{"delete from quotes", "42601", 1, 8},
	} {
		_, err := rows(t, r, tt.sql, map[string]json.RawMessage{"id": json.RawMessage(`"00000000-0000-4000-8000-000000000001"`)}, 1)
		var f *query.Fault
		if !errors.As(err, &f) || f.Code != tt.code || f.Line != tt.line || f.Column != tt.column {
			t.Errorf("%s: %+v (%v)", tt.sql, f, err)
		}
		if passes := tt.code == "57014"; (f.Mend() == "") != passes {
			t.Errorf("%s: the mend is %q", tt.sql, f.Mend())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var f *query.Fault
	if err := r.Read(ctx, func(*query.Tx) error { return nil }); !errors.As(err, &f) {
		t.Errorf("a canceled read: %v", err)
	}
}

// TestOneMoment: lookups of one transaction see the same rows, and what time it
// is there.
func TestOneMoment(t *testing.T) {
	t.Parallel()
	db, r := quotes(t)
	err := r.Read(t.Context(), func(tx *query.Tx) error {
		q := parse(t, `select count(*) as n from quotes`)
		before, err := tx.Rows(t.Context(), q, nil, 1)
		if err != nil {
			return err
		}
		pgtest.Exec(t, db, `delete from quotes`)
		after, err := tx.Rows(t.Context(), q, nil, 1)
		if err == nil && string(before[0]) != string(after[0]) {
			t.Errorf("%s, then %s", before, after)
		}
		if d := time.Since(tx.Now()); d < -time.Minute || d > time.Minute {
			t.Errorf("the clock is %s off", d)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRole: lookups have the rights of their role and no others.
func TestRole(t *testing.T) {
	t.Parallel()
	db, r := quotes(t)
	role := pgtest.Role(t, db, "lookup")
	pgtest.Exec(t, db, `grant select (id, note) on quotes to `+role)
	r.Role = role
	if _, err := rows(t, r, `select note from quotes`, nil, 5); err != nil {
		t.Error(err)
	}
	var f *query.Fault
	if _, err := rows(t, r, `select total from quotes`, nil, 5); !errors.As(err, &f) || f.Code != "42501" {
		t.Errorf("%v", err)
	}
	// The pool's connections are as they were.
	if got := pgtest.QueryVal[string](t, db, `select current_user`); got == role {
		t.Errorf("still %s", got)
	}
}

// TestExplainAfterAFailure: a statement that cannot be planned leaves nothing
// behind on its connection.
func TestExplainAfterAFailure(t *testing.T) {
	t.Parallel()
	db, r := quotes(t)
	role := db.Name + "_reader"
	pgtest.Exec(t, db, `create role `+role)
	t.Cleanup(func() { pgtest.Exec(t, db, `drop role `+role) })
	r.Role = role
	for range 20 {
		var f *query.Fault
		if _, err := r.Explain(t.Context(), parse(t, `select id from quotes where id = :id`)); !errors.As(err, &f) || f.Code != "42501" {
			t.Fatalf("%v; want that it is not permitted", err)
		}
		if _, err := r.Explain(t.Context(), parse(t, `select 1 as n`)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestExplain: columns and scans of whole tables are told, and nothing is run.
func TestExplain(t *testing.T) {
	t.Parallel()
	db, r := quotes(t)
	pgtest.Exec(t, db, `insert into quotes (id, total) select gen_random_uuid(), n from generate_series(1, 20000) as n`)
	pgtest.Exec(t, db, `analyze quotes`)
	p, err := r.Explain(t.Context(), parse(t, `select id, total as sum from quotes where id = :id`))
	if err != nil || !slices.Equal(p.Columns, []string{"id", "sum"}) || len(p.Scans) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = r.Explain(t.Context(), parse(t, `select id from quotes where note = :note order by id`))
	if err != nil || len(p.Scans) != 1 || p.Scans[0].Table != "quotes" || p.Scans[0].Rows < 20000 || p.Scans[0].Column != "note" {
		t.Errorf("%+v, %v", p, err)
	}
	for where, column := range map[string]string{
		`total = :n::numeric`: "total", `note = :a and total = :b`: "", `lower(note) = :a`: "", `total > :n`: "", `note = :a::varchar`: "note",
		`note in (select q.note from quotes q where q.total = :n)`: "",
	} {
		p, err := r.Explain(t.Context(), parse(t, `select id from quotes where `+where))
		if err != nil || len(p.Scans) == 0 || p.Scans[0].Column != column {
			t.Errorf("%s: %+v, %v", where, p, err)
		}
	}
	var f *query.Fault
	if _, err = r.Explain(t.Context(), parse(t, "select id,\n  totl from quotes")); !errors.As(err, &f) || f.Line != 2 || f.Column != 3 {
		t.Errorf("%v", err)
	}
	p, err = r.ExplainStatement(t.Context(), parse(t, `update quotes set note = :note where id = :id returning id`), "")
	if err != nil || len(p.Scans) != 0 || !slices.Equal(p.Columns, []string{"id"}) {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err = r.ExplainStatement(t.Context(), parse(t, `update quotes set nte = :note`), ""); !errors.As(err, &f) || f.Line != 1 || f.Column != 19 {
		t.Errorf("%v", err)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from quotes where note is not null`); n != 1 {
		t.Errorf("%d rows have a note: something was run", n)
	}
}

// TestRowsAreBounded: what a lookup finds is held in memory, and has a bound.
func TestRowsAreBounded(t *testing.T) {
	t.Parallel()
	_, r := quotes(t)
	for _, tt := range []struct {
		name, sql string
		large     bool
	}{
		{"one large row", `select repeat('x', 9000000) as a`, true},
		{"many rows", `select repeat('x', 100000) as a from generate_series(1, 100)`, true},
		{"within", `select repeat('x', 100000) as a from generate_series(1, 50)`, false},
	} {
		err := r.Read(t.Context(), func(tx *query.Tx) error {
			found, err := tx.Rows(t.Context(), parse(t, tt.sql), nil, 1000)
			var large *query.TooLarge
			if errors.As(err, &large) != tt.large || !tt.large && len(found) != 50 {
				t.Errorf("%s: %d rows, %v", tt.name, len(found), err)
			}
			// The transaction goes on, for the lookups of other routes.
			if found, err = tx.Rows(t.Context(), parse(t, `select 1 as a`), nil, 1); err != nil || string(found[0]) != `{"a": 1}` {
				t.Errorf("%s, afterwards: %s, %v", tt.name, found, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestBadValueEndsOneLookup: those after it, of other routes, are answered, from
// the same moment.
func TestBadValueEndsOneLookup(t *testing.T) {
	t.Parallel()
	db, r := quotes(t)
	err := r.Read(t.Context(), func(tx *query.Tx) error {
		for i, sql := range []string{`select 1 from quotes where id = :id`, `select 1 / (total - total) as a from quotes`,
			`select (select g from generate_series(1, 2) as g) as a`, `select repeat('[', 100000)::json as a`} {
			var bad *query.BadValue
			if _, err := tx.Rows(t.Context(), parse(t, sql), map[string]json.RawMessage{"id": json.RawMessage(`"no uuid"`)}, 1); !errors.As(err, &bad) {
				t.Errorf("%d: %v", i, err)
			}
			pgtest.Exec(t, db, `insert into quotes (id) values (gen_random_uuid())`)
			found, err := tx.Rows(t.Context(), parse(t, `select count(*) as n from quotes`), nil, 1)
			if err != nil || string(found[0]) != `{"n": 2}` {
				t.Errorf("%d, afterwards: %s, %v", i, found, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
