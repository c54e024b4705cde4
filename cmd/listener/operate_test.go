package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// held has two deliveries that are held.
func held(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, lease_until) select 'a', '{}', 'infinity' from generate_series(1, 2)`)
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, content, stuck_at)
		select gen_random_uuid(), id, seq, type, created_at, 'direct', 'sms', 'sms', '+1*******' || 10 + seq, 'held', 0, '{}', now() from outbox_events`)
	return db
}

// TestConfirmation: nothing is changed before somebody said yes.
func TestConfirmation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer string
		attended     bool
		flags        changeFlags
		code, done   int
		stdout       string
		stderr       string
	}{
		{"yes", "y\n", true, changeFlags{}, exitOK, 2, "2 deliveries found, 2 to be canceled\nCancel 2 deliveries? [y/N] canceled 2 deliveries\n", ""},
		{"in full", "Yes\r\n", true, changeFlags{}, exitOK, 2, "Cancel 2 deliveries? [y/N] canceled 2 deliveries\n", ""},
		{"no", "n\n", true, changeFlags{}, exitCannot, 0, "nothing was done", ""},
		{"enter", "\n", true, changeFlags{}, exitCannot, 0, "nothing was done", ""},
		{"the end of input", "", true, changeFlags{}, exitCannot, 0, "nothing was done", ""},
		{"nobody to ask", "y\n", false, changeFlags{}, exitCannot, 0, "", "--yes does it"},
		{"not asked", "", false, changeFlags{Yes: true}, exitOK, 2, "canceled 2 deliveries\n", ""},
		{"a dry run", "y\n", true, changeFlags{DryRun: true, Yes: true}, exitOK, 0, "2 deliveries found, 2 to be canceled\n", ""},
		{"JSON", "", false, changeFlags{Yes: true, JSON: true}, exitOK, 2, `{"action":"cancel","dry_run":false,"matched":2,"done":2,"refused":[],"ids":["`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := held(t)
			var stdout, stderr bytes.Buffer
			s, err := readSettings([]string{"DATABASE_URL=" + db.URL}, "")
			if err != nil {
				t.Fatal(err)
			}
			tt.flags.State = []string{"held"}
			code := change(context.Background(), operate.Request{Action: operate.Cancel}, &tt.flags, s, terminal{strings.NewReader(tt.answer), tt.attended}, &stdout, &stderr)
			if code != tt.code || !strings.Contains(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.stderr) || tt.stderr == "" && stderr.Len() > 0 {
				t.Errorf("exit code %d\nstdout %s\nstderr %s", code, &stdout, &stderr)
			}
			if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where state = 'canceled'`); n != tt.done {
				t.Errorf("%d canceled, want %d", n, tt.done)
			}
			if n := pgtest.QueryVal[int](t, db, `select coalesce(sum(count), 0) from outbox.audit where who <> '' and via = 'command'`); n != tt.done {
				t.Errorf("%d in the audit, want %d", n, tt.done)
			}
		})
	}
}

// TestEmptyFlags: a flag that narrows down and has nothing in it, as where a variable of a script is
// not set, is refused; it would not narrow down.
func TestEmptyFlags(t *testing.T) {
	t.Parallel()
	db := held(t)
	env := map[string]string{"DATABASE_URL": db.URL}
	for _, flag := range []string{"type", "channel", "state", "error", "since", "until"} {
		for _, action := range []string{"deliveries", "replay", "cancel", "hold", "release"} {
			args := []string{action, "--state", "held", "--" + flag, ""}
			if flag == "state" {
				args[1] = "--channel"
				args[2] = "sms"
			}
			if action != "deliveries" {
				args = append(args, "--yes")
			}
			if got := call(t, env, args...); got.code != exitUsage || !strings.Contains(got.stderr, "--"+flag+" is empty") {
				t.Errorf("%q: %+v", args, got)
			}
		}
	}
	for _, args := range [][]string{{"pause", "--channel="}, {"pause", "--type=a", "--channel=", "--yes"}, {"resume", "--channel=a", "--type=", "--yes"}} {
		if got := call(t, env, args...); got.code != exitUsage || !strings.Contains(got.stderr, " is empty") {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if n := pgtest.QueryVal[int](t, db, `select (select count(*) from outbox.deliveries where state <> 'held') + (select count(*) from outbox.audit)`); n != 0 {
		t.Errorf("%d changes", n)
	}
}

// TestNoOperator: a role that may only look is told what it lacks.
func TestNoOperator(t *testing.T) {
	t.Parallel()
	db := held(t)
	role := pgtest.Role(t, db, "reader")
	pgtest.Exec(t, db, `grant usage on schema outbox to `+role)
	pgtest.Exec(t, db, `grant select on public.outbox_events, outbox.deliveries, outbox.attempts, outbox.pauses, outbox.brakes to `+role)
	for line, code := range map[string]int{
		"deliveries":                             exitOK,
		"cancel --state held --dry-run":          exitOK,
		"cancel --state held --yes":              exitCannot,
		"release --state held --yes":             exitCannot,
		"pause --channel sms --yes":              exitCannot,
		"pause --channel sms --dry-run":          exitOK,
		"resume --channel sms --yes":             exitOK, // there is nothing to end
		"replay --even-delivered --type a --yes": exitOK, // nor to replay
	} {
		got := call(t, map[string]string{"DATABASE_URL": asRole(t, db, role)}, strings.Fields(line)...)
		if got.code != code || (code == exitCannot) != strings.Contains(got.stderr, "run `listener migrate --grant-operator ROLE` as the owner") {
			t.Errorf("%s: %+v", line, got)
		}
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where state = 'held'`); n != 2 {
		t.Errorf("%d of 2 are held", n)
	}
}

// TestOperatorRole: with the rights of sql/grants_operator.sql each command works.
func TestOperatorRole(t *testing.T) {
	t.Parallel()
	db := held(t)
	role := pgtest.Role(t, db, "operator")
	env := map[string]string{"DATABASE_URL": db.URL}
	if got := call(t, env, "migrate", "--grant-operator", role); got.code != exitOK || !strings.Contains(got.stdout, "has what an operator needs") {
		t.Fatalf("%+v", got)
	}
	env["DATABASE_URL"] = asRole(t, db, role)
	for _, line := range []string{
		"deliveries",
		"release --state held --limit 1 --yes",
		"hold --state ready --yes",
		"cancel --state held --yes",
		"replay --state canceled --yes",
		"pause --channel sms --yes",
		"pause",
		"resume --channel sms --yes",
	} {
		if got := call(t, env, strings.Fields(line)...); got.code != exitOK || got.stderr != "" {
			t.Errorf("%s: %+v", line, got)
		}
	}
	if got := pgtest.QueryVals[string](t, db, `select action || ' ' || count from outbox.audit order by id`); strings.Join(got, ", ") != "release 1, hold 1, cancel 2, replay 2, pause 1, resume 1" {
		t.Errorf("audit: %v", got)
	}
}

// TestJSONOfPauses: what people wrote stands in JSON as they wrote it, as in that of
// the other commands.
func TestJSONOfPauses(t *testing.T) {
	t.Parallel()
	db := held(t)
	env := map[string]string{"DATABASE_URL": db.URL}
	pgtest.Exec(t, db, `insert into outbox.pauses (kind, pattern, who, reason) values ('channel', 'c<d', 'ann', 'a < b & c')`)
	pgtest.Exec(t, db, `insert into outbox.brakes (destination, reason, failures, until, probe_at) values ('sms', 'mail to <ann>', 1, now(), now())`)
	for _, tt := range []struct {
		name, args string
		lines      int
		want       []string
	}{
		{"what is paused", "pause --json", 2, []string{`"reason":"a < b & c"`, `"reason":"mail to <ann>"`}},
		{"paused", "pause --channel a<b --dry-run --json", 1, []string{`{"action":"pause","dry_run":true,`, `"pattern":"a<b"`}},
		{"resumed", "resume --channel c<d --dry-run --json", 1, []string{`{"action":"resume","dry_run":true,`, `"pattern":"c<d"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := call(t, env, strings.Fields(tt.args)...)
			if got.code != exitOK || strings.Count(got.stdout, "\n") != tt.lines {
				t.Errorf("%+v; want %d lines", got, tt.lines)
			}
			for _, want := range tt.want {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("%s has no %s", got.stdout, want)
				}
			}
		})
	}
}

// TestPauseOfNoChannel: a name that is no channel stops nothing, and whoever pauses it in a
// hurry is told. A program of somebody's own may have it, so that it is paused.
func TestPauseOfNoChannel(t *testing.T) {
	t.Parallel()
	env := map[string]string{"DATABASE_URL": held(t).URL}
	for _, tt := range []struct{ args, want, stderr string }{
		{"pause --channel mail --yes", "paused: channel mail; 0 deliveries waiting", "warning: listener has no channel mail: did you mean email? it has discard, email, http, log, openai, sms, sql, webhook"},
		{"pause --channel SMS --dry-run", "to be paused: channel SMS; 0 deliveries waiting", "warning: listener has no channel SMS: did you mean sms? it has "},
		{"pause --channel fax,log --yes", "paused: channel fax, channel log; 0 deliveries waiting", "warning: listener has no channel fax: it has "},
		{"pause --channel handler --yes", "paused: channel handler; 0 deliveries waiting", ""},
		{"resume --channel mail --yes", "resumed: channel mail; 0 deliveries to go on", ""},
	} {
		got := call(t, env, strings.Fields(tt.args)...)
		if got.code != exitOK || !strings.HasPrefix(got.stdout, tt.want) || !strings.HasPrefix(got.stderr, tt.stderr) || tt.stderr == "" && got.stderr != "" {
			t.Errorf("%s: %+v", tt.args, got)
		}
	}
}
