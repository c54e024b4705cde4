package listener_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

func sqlStep(t testing.TB, name, statement string, args ...string) dispatch.Message {
	t.Helper()
	c := dispatch.SQL{Statement: statement}
	for _, a := range args {
		c.Args = append(c.Args, &a)
	}
	content, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return dispatch.Message{Route: "r", Step: name, Channel: dispatch.ChannelSQL, Content: content, Terms: &dispatch.Terms{Freeze: true, Retry: dispatch.Retries{Attempts: 2, First: 20 * time.Millisecond}}}
}

// TestSQLStep: the statement is committed with its record, with arguments of
// every usual type given as text; one that fails takes nothing with it but
// itself.
func TestSQLStep(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `create table notes (id uuid, n integer, price numeric, at timestamptz, tags text[], doc jsonb, ok boolean, body text not null)`)
	r := router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
		switch ev.Type {
		case "fine":
			m := sqlStep(t, "note", `insert into notes values ($1, $2, $3, $4, $5, $6, $7, $8)`,
				"0a0b0c0d-0000-4000-8000-000000000001", "42", "12.50", "2026-01-02T03:04:05.678+02:00", `{a,"b c"}`, `{"x": 1.10}`, "true", "it's $1")
			return []dispatch.Message{m, follower(step("after", dispatch.Terms{After: []string{"note"}, Scope: json.RawMessage(`{}`)}))}, nil
		case "null":
			m := sqlStep(t, "note", `insert into notes (body) values ($1)`)
			m.Content = json.RawMessage(`{"statement": "insert into notes (body) values ($1)", "args": [null]}`)
			return []dispatch.Message{m}, nil
		case "missing table":
			return []dispatch.Message{sqlStep(t, "note", `insert into nothing values ($1)`, "x")}, nil
		case "two":
			return []dispatch.Message{
				sqlStep(t, "writes first", `with w as (insert into notes (body) values ('torn') returning 1) select 1 / (n - 1) from (select count(*) as n from w) as t`),
				sqlStep(t, "is beside", `insert into notes (body) values ('beside')`),
			}, nil
		}
		return nil, nil
	}}
	start(t, newListener(t, db, routed(newProvider(nil), plain, r), nil))
	fine := insert(t, db, "fine", `{}`)
	null := insert(t, db, "null", `{}`)
	missing := insert(t, db, "missing table", `{}`)
	two := insert(t, db, "two", `{}`)
	wantStates(t, db, fine, map[string]string{"note": "delivered", "after": "delivered"})
	wantStates(t, db, null, map[string]string{"note": "dead"})
	wantStates(t, db, missing, map[string]string{"note": "dead"})
	wantStates(t, db, two, map[string]string{"writes first": "dead", "is beside": "delivered"})
	processed(t, db, 5*time.Second)
	if n := pgtest.QueryVal[string](t, db, `select string_agg(concat_ws(' ', n, price, extract(epoch from at), tags, doc, ok, body), '; ' order by n) from notes`); n !=
		`42 12.50 1767315845.678000 {a,"b c"} {"x": 1.10} t it's $1; beside` {
		t.Errorf("the table has %s", n)
	}
	if l := ledgerOf(t, db, missing); l.Attempts != 2 {
		t.Errorf("%+v: a missing table may come back, and is tried again", l)
	}
	if l := ledgerOf(t, db, null); l.Attempts != 1 {
		t.Errorf("%+v: a constraint holds the next time too", l)
	}
}

// TestSQLStepAsARole: a statement runs as the role that was named, and the
// record as the listener's own.
func TestSQLStepAsARole(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := pgtest.Role(t, db, "app")
	pgtest.Exec(t, db, `create table notes (body text default current_user)`)
	pgtest.Exec(t, db, `grant insert on notes to `+role)
	r := router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
		if ev.Type == "reads" {
			return []dispatch.Message{sqlStep(t, "s", `insert into notes select type from public.outbox_events`)}, nil
		}
		return []dispatch.Message{sqlStep(t, "s", `insert into notes default values`)}, nil
	}}
	l := newListener(t, db, routed(newProvider(nil), plain, r), func(c *listener.Config) { c.SQL.Role = role })
	start(t, l)
	good, bad := insert(t, db, "writes", `{}`), insert(t, db, "reads", `{}`)
	wantStates(t, db, good, map[string]string{"s": "delivered"})
	wantStates(t, db, bad, map[string]string{"s": "dead"})
	if got := pgtest.QueryVal[string](t, db, `select string_agg(body, ' ') from notes`); got != role {
		t.Errorf("written by %q, want %q", got, role)
	}
	l.SetSQL(listener.SQLConfig{})
	wantStates(t, db, insert(t, db, "writes", `{}`), map[string]string{"s": "delivered"})
	if got := pgtest.QueryVal[int](t, db, `select count(*) from notes where body = current_user`); got != 1 {
		t.Errorf("%d notes written as the listener's own role, want 1", got)
	}
}

// TestSQLStepThatMisbehaves: no statement ends the transaction that records it,
// or holds a worker for good; what it did before it failed is undone. The ledger
// and the log say what is wrong with it, without the values.
func TestSQLStepThatMisbehaves(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, statement string
		args            []string
		state           string
		attempts        int
		says, notes     string // in the ledger, and what the table has after it
	}{
		{"a procedure that commits", `call commits()`, nil, "dead", 2, "invalid transaction termination", ""},
		{"a procedure that rolls back", `call rolls_back()`, nil, "dead", 2, "invalid transaction termination", ""},
		{"one that hides that it tried", `call hides()`, nil, "delivered", 1, "", "hidden"},
		{"two statements", `insert into notes values ('torn'); commit`, nil, "dead", 2, "cannot insert multiple commands", ""},
		{"against a constraint that waits for the commit", `insert into notes values ('torn', 7)`, nil, "dead", 1,
			`insert or update on table "notes" violates foreign key constraint "known"`, ""},
		{"an internal error", `select fails($1, 'XX000')`, []string{"secret"}, "dead", 2, "code XX000: … is at fault", ""},
		{"as if the disk were full", `select fails($1, '53100')`, []string{"secret"}, "dead", 2, "code 53100: … is at fault", ""},
		{"a value of another type", `insert into notes values ('torn', $1)`, []string{"secret"}, "dead", 1, "invalid input syntax for type integer: …", ""},
		{"a value that is there already", `insert into notes values ('secret'), ($1)`, []string{"secret"}, "dead", 1, `violates unique constraint "once"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			for _, sql := range []string{
				`create table kinds (kind integer primary key)`,
				`create table notes (body text constraint once unique, kind integer constraint known references kinds deferrable initially deferred)`,
				`create procedure commits() language plpgsql as $$ begin insert into notes values ('torn'); commit; insert into notes values ('after'); end $$`,
				`create procedure rolls_back() language plpgsql as $$ begin insert into notes values ('torn'); rollback; insert into notes values ('after'); end $$`,
				`create procedure hides() language plpgsql as $$ begin
					begin insert into notes values ('torn'); commit; exception when others then null; end;
					insert into notes values ('hidden'); end $$`,
				`create function fails(value text, code text) returns void language plpgsql as $$ begin
					insert into notes values ('torn');
					raise exception '"%" is at fault', value using errcode = code, detail = value; end $$`,
			} {
				pgtest.Exec(t, db, sql)
			}
			r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
				return []dispatch.Message{sqlStep(t, "s", tt.statement, tt.args...)}, nil
			}}
			var logged words
			start(t, newListener(t, db, routed(newProvider(nil), plain, r), func(c *listener.Config) {
				c.Workers = 1
				c.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
			}))
			ev := insert(t, db, "e", `{}`)
			processed(t, db, 20*time.Second)
			l := ledgerOf(t, db, ev)
			if l.State != tt.state || l.Attempts != tt.attempts || !strings.Contains(l.Error, tt.says) {
				t.Errorf("the ledger has %+v", l)
			}
			if notes := pgtest.QueryVal[string](t, db, `select coalesce(string_agg(body, ' '), '') from notes`); notes != tt.notes {
				t.Errorf("the table has %q, want %q", notes, tt.notes)
			}
			errors := pgtest.QueryVal[string](t, db, `select coalesce(string_agg(error, ' '), '') from outbox.attempts`)
			for where, text := range map[string]string{"ledger": l.Error, "attempts": errors, "log": logged.String()} {
				if strings.Contains(text, "secret") {
					t.Errorf("a value is in the %s: %s", where, text)
				}
			}
		})
	}
}

// follower is m without what is rendered later.
func follower(m dispatch.Message) dispatch.Message {
	m.Content, m.Recipient = nil, ""
	return m
}
