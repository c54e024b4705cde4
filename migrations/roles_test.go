package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/migrations"
	"github.com/outbox-listener/outbox-listener/sql"
)

// closed takes away what PUBLIC has by default, as docs/migrate.md advises.
const closed = `revoke create on schema public from public`

func closedDB(t *testing.T) *pgtest.DB {
	db := pgtest.New(t)
	pgtest.Exec(t, db, closed)
	pgtest.Exec(t, db, `revoke temporary on database `+db.Name+` from public`)
	return db
}

// denied fails the test unless sql is refused for want of rights.
func denied(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "42501" {
		t.Errorf("%s: %v; want permission denied", sql, err)
	}
}

func TestInsertOnlyRole(t *testing.T) {
	t.Parallel()
	db := closedDB(t)
	app := pgtest.Role(t, db, "app")
	pgtest.Exec(t, db, statements(t, "app", app))
	conn := connect(t, db, app)
	exec(t, conn, `insert into outbox_events (type, payload) values ('sms.send', '{}')`)
	exec(t, conn, `insert into outbox_events (id, type, payload) values (gen_random_uuid(), 'sms.send', '{}')`)

	// A listener that sleeps is woken.
	listener := connect(t, db, "")
	exec(t, listener, `listen outbox_events`)
	exec(t, listener, `select pg_advisory_lock(7206178340117325153)`)
	exec(t, conn, `insert into outbox_events (type, payload) values ('sms.send', '{}')`)
	if _, err := listener.WaitForNotification(t.Context()); err != nil {
		t.Error(err)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(distinct seq) from outbox_events`); n != 3 {
		t.Errorf("%d places for 3 events", n)
	}
	for _, sql := range []string{
		`select from outbox_events`,
		`update outbox_events set processed_at = now()`,
		`delete from outbox_events`,
		`truncate outbox_events`,
		`insert into outbox_events (type, payload, seq) values ('a', '{}', 1)`,
		`insert into outbox_events (type, payload, processed_at) values ('a', '{}', now())`,
		`select setval('outbox_events_seq_seq', 1)`,
		`select from outbox.deliveries`,
		`select outbox.gate_open(1)`,
		`select outbox.deliveries_of(1)`,
		`create table mine ()`,
		`create temporary table mine ()`,
		`alter table outbox_events disable trigger outbox_events_wake`,
	} {
		denied(t, conn, sql)
	}
}

func TestDaemonRole(t *testing.T) {
	t.Parallel()
	db := closedDB(t)
	daemon := pgtest.Role(t, db, "daemon")
	for range 2 { // as often as one likes
		if err := migrations.Grant(t.Context(), connect(t, db, ""), daemon); err != nil {
			t.Fatal(err)
		}
	}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('a', '{}'), ('b', '{}')`)
	conn := connect(t, db, daemon)
	if err := migrations.Check(t.Context(), conn); err != nil {
		t.Errorf("Check: %v", err)
	}
	if st, err := migrations.Status(t.Context(), conn); err != nil || !st.UpToDate {
		t.Errorf("Status: %+v, %v", st, err)
	}
	for _, sql := range []string{
		`select id, payload from public.outbox_events where seq > 0 for no key update skip locked`,
		`update public.outbox_events set lease_until = now(), claim = gen_random_uuid()`,
		`update public.outbox_events set processed_at = now()`,
		`update public.outbox_events set processed_at = null where type = 'a'`, // through our trigger
		`select last_value from public.outbox_events_seq_seq`,
		`insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts)
		 select id, id, seq, type, created_at, '', '', '', '', 'ready', 0 from public.outbox_events`,
		`update outbox.deliveries set state = 'delivered', finished_at = now(), content = '{}'`,
		`insert into outbox.attempts (delivery_id, attempt, took, state) select id, 1, '1 s', 'dead' from outbox.deliveries`,
		`delete from outbox.attempts`, // past its retention
		`delete from outbox.deliveries`,
		`update outbox.state set floor = 1`,
		`insert into outbox.audit (run, who, via, origin, action, filter, count, reason) values (gen_random_uuid(), 'key', 'api', '', 'cancel', '{}', 1, '')`,
		`insert into outbox.pauses (kind, pattern, who, reason) values ('type', 'a', 'kim', '')`,
		`delete from outbox.pauses`,
		`insert into outbox.brakes (destination, reason, failures, until, probe_at) values ('sms', '', 1, now(), now())`,
		`update outbox.brakes set failures = 2`,
		`delete from outbox.brakes`,
		`insert into outbox.rates (key, asked_at, granted, tat) values ('sms', now(), 1, now())`,
		`update outbox.rates set granted = 2`,
		`delete from outbox.rates`,
		`insert into outbox.crashes (id, count) values (gen_random_uuid(), 1)`,
		`update outbox.crashes set count = 2`,
		`delete from outbox.crashes`,
		`insert into outbox.sms_counts (key, count, times) values ('day', 1, '{}')`,
		`update outbox.sms_counts set count = 2`,
		`delete from outbox.sms_counts`,
		`select outbox.gate_open(10)`,
		`listen outbox_events`,
		`select pg_notify('outbox_events', '')`,
	} {
		exec(t, conn, sql)
	}
	for _, sql := range []string{
		`update public.outbox_events set payload = '{}'`,
		`update public.outbox_events set type = 'b'`,
		`update public.outbox_events set seq = 1`,
		`insert into public.outbox_events (type, payload) values ('a', '{}')`,
		`delete from public.outbox_events`,
		`truncate public.outbox_events`,
		`truncate outbox.deliveries`,
		`update outbox.attempts set error = ''`,
		`truncate outbox.attempts`,
		`update outbox.audit set who = 'lou'`,
		`delete from outbox.audit`,
		`truncate outbox.audit`,
		`update outbox.state set backlog_done_at = null`,
		`update outbox.schema_history set checksum = ''`,
		`insert into outbox.schema_history (name, kind, checksum) values ('x', 'trigger', '')`,
		`select outbox.reopen()`,
		`create table public.mine ()`,
		`create table outbox.mine ()`,
		`create schema mine`,
		`create temporary table mine ()`,
		`alter table public.outbox_events disable trigger all`,
		`drop table outbox.state`,
		`select setval('public.outbox_events_seq_seq', 1)`,
	} {
		denied(t, conn, sql)
	}
}

// statements returns the SQL of docs/migrate.md that mentions a role, with
// another role in its place.
func statements(t *testing.T, role, as string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/migrate.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for i, block := range strings.Split(string(text), "```") {
		if sql, ok := strings.CutPrefix(block, "sql\n"); ok && i%2 == 1 && strings.Contains(sql, "grant") && strings.Contains(sql, " to "+role+";") {
			found = append(found, strings.ReplaceAll(sql, " to "+role+";", " to "+as+";"))
		}
	}
	if len(found) != 1 {
		t.Fatalf("docs/migrate.md has %d blocks of grants for %s", len(found), role)
	}
	return found[0]
}

func TestReaderRole(t *testing.T) {
	t.Parallel()
	db := closedDB(t)
	reader := pgtest.Role(t, db, "reader")
	pgtest.Exec(t, db, statements(t, "outbox_reader", reader))
	conn := connect(t, db, reader)
	exec(t, conn, `select state, count(*) from outbox.deliveries group by state`)
	exec(t, conn, `select id, processed_at from public.outbox_events`)
	exec(t, conn, `select state from outbox.deliveries where id in (select outbox.deliveries_of(seq) from public.outbox_events where id = gen_random_uuid())`)
	if _, err := conn.Exec(t.Context(), sql.Query("find_lines"), 10, []string{"quote.%"}); err != nil {
		t.Errorf("listener lines: %v", err)
	}
	if st, err := migrations.Status(t.Context(), conn); err != nil || !st.UpToDate {
		t.Errorf("Status: %+v, %v", st, err)
	}
	denied(t, conn, `select payload from public.outbox_events`)
	denied(t, conn, `select content from outbox.deliveries`)
	denied(t, conn, `update outbox.deliveries set state = 'dead'`)
	denied(t, conn, `select outbox.gate_open(1)`)

	// All of a delivery but what it says.
	if n := pgtest.QueryVal[int](t, db, `
		select count(*) from information_schema.columns
		where table_schema = 'outbox' and table_name = 'deliveries' and column_name not in ('content', 'scope', 'answer')
		  and not has_column_privilege($1, 'outbox.deliveries', column_name, 'select')`, reader); n != 0 {
		t.Errorf("%d columns of outbox.deliveries are missing in docs/migrate.md", n)
	}
}

func TestDocumentedGrants(t *testing.T) {
	t.Parallel()
	for role, text := range map[string]string{"outbox_daemon": sql.Grants("outbox_daemon"), "outbox_operator": sql.OperatorGrants("outbox_operator")} {
		var grants []string
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "--") {
				grants = append(grants, line)
			}
		}
		if got, want := strings.TrimSpace(statements(t, role, role)), strings.TrimSpace(strings.Join(grants, "")); got != want {
			t.Errorf("docs/migrate.md has\n%s\nsql has\n%s", got, want)
		}
	}
}

// TestOperatorRole: people who operate change where deliveries stand, and
// neither what they say nor what is on record of themselves.
func TestOperatorRole(t *testing.T) {
	t.Parallel()
	db := closedDB(t)
	operator := pgtest.Role(t, db, "operator")
	for range 2 { // as often as one likes
		if err := migrations.GrantOperator(t.Context(), connect(t, db, ""), operator); err != nil {
			t.Fatal(err)
		}
	}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, processed_at) values ('a', '{}', now())`)
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts)
		select id, id, seq, type, created_at, '', '', '', '', 'held', 0 from outbox_events`)
	conn := connect(t, db, operator)
	if st, err := migrations.Status(t.Context(), conn); err != nil || !st.UpToDate {
		t.Errorf("Status: %+v, %v", st, err)
	}
	for _, sql := range []string{
		`select id, type, processed_at from public.outbox_events for no key update`,
		`update public.outbox_events set processed_at = null`,
		`select * from outbox.deliveries for no key update`,
		`update outbox.deliveries set state = 'ready', due_at = now(), claim = null, last_error = '', stuck_at = null, held_from = null`,
		`insert into outbox.audit (run, who, via, origin, action, filter, count, reason) values (gen_random_uuid(), 'kim', 'command', '', 'cancel', '{}', 1, '')`,
		`select * from outbox.audit`,
		`insert into outbox.pauses (kind, pattern, who, reason) values ('type', 'a', 'kim', '')`,
		`delete from outbox.pauses`,
		`select outbox.deliveries_of(1)`,
	} {
		exec(t, conn, sql)
	}
	for _, sql := range []string{
		`select payload from public.outbox_events`,
		`update public.outbox_events set seq = 1`,
		`update public.outbox_events set claim = null`,
		`insert into public.outbox_events (type, payload) values ('a', '{}')`,
		`delete from public.outbox_events`,
		`update outbox.deliveries set content = '{}'`,
		`update outbox.deliveries set recipient = ''`,
		`delete from outbox.deliveries`,
		`delete from outbox.attempts`,
		`update outbox.audit set who = 'lou'`,
		`delete from outbox.audit`,
		`update outbox.pauses set who = 'lou'`,
		`update outbox.state set floor = 1`,
		`create table outbox.mine ()`,
	} {
		denied(t, conn, sql)
	}
}

func TestGrant(t *testing.T) {
	t.Parallel()
	empty := pgtest.Empty(t)
	role := pgtest.Role(t, empty, "daemon")
	wantError(t, migrations.Grant(t.Context(), connect(t, empty, ""), role), "run `listener migrate`")

	db := pgtest.New(t)
	conn := connect(t, db, "")
	wantError(t, migrations.Grant(t.Context(), conn, "no such"), `there is no role "no such": create role "no such" login`)
	wantError(t, migrations.Grant(t.Context(), conn, "public"), `there is no role "public"`)

	for _, end := range []string{` "; drop schema outbox; --`, "\n; create table oops (); --"} {
		strange := db.Name[len("outbox_test_"):] + end
		quoted := pgx.Identifier{strange}.Sanitize()
		pgtest.Exec(t, db, `create role `+quoted)
		for name, grant := range map[string]func(context.Context, *pgx.Conn, string) error{"Grant": migrations.Grant, "GrantOperator": migrations.GrantOperator} {
			if err := grant(t.Context(), conn, strange); err != nil {
				t.Errorf("%s to %q: %v", name, strange, err)
			}
		}
		if !pgtest.QueryVal[bool](t, db, `select has_table_privilege($1, 'outbox.state', 'select')`, strange) {
			t.Errorf("no rights were granted to %q", strange)
		}
		if pgtest.QueryVal[int](t, db, `select count(*) from pg_class where relname = 'oops'`) != 0 {
			t.Errorf("the name %q was run", strange)
		}
		pgtest.Exec(t, db, `drop owned by `+quoted)
		pgtest.Exec(t, db, `drop role `+quoted)
	}
}

// TestCheck: one line, which says what to do.
func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, sql, want string }{
		{"nothing", `drop schema outbox cascade`, "schema outbox is missing: run `listener migrate`"},
		{"an empty schema", `drop schema outbox cascade; create schema outbox`, "schema outbox is missing: run `listener migrate`"},
		{"older", `delete from outbox.schema_history where version > 2`, fmt.Sprintf("schema outbox is at version 2 of %d: run `listener migrate`", latest)},
		{"newer", `insert into outbox.schema_history (name, kind, version, checksum) values ('9007_x.sql', 'migration', 9007, '')`,
			fmt.Sprintf("this database has schema version 9007, this binary knows %d: update listener", latest)},
		{"no triggers yet", `delete from outbox.schema_history where name = 'wake.sql'`, "trigger script wake.sql was not applied: run `listener migrate`"},
		{"no table", `drop table outbox_events`, "our columns are gone"},
		{"no rights", `revoke usage on schema outbox from ROLE`, "role \"ROLE\" may not use schema outbox: run `listener migrate --grant ROLE`"},
		{"no right to read the history", `revoke select on outbox.schema_history from ROLE`, "role \"ROLE\" may not use schema outbox: run `listener migrate --grant ROLE`"},
		{"lacks a column", `revoke update (claim) on outbox_events from ROLE`, "role \"ROLE\" lacks rights (update (claim) on public.outbox_events): run `listener migrate --grant ROLE`"},
		{"lacks three", `revoke execute on function outbox.gate_open(integer) from ROLE; revoke insert on outbox.attempts, outbox.deliveries from ROLE`,
			"role \"ROLE\" lacks rights (insert on outbox.deliveries, insert on outbox.attempts, execute on outbox.gate_open(integer)): run `listener migrate --grant ROLE`"},
		{"sees no row", `alter table outbox_events enable row level security`, "row level security keeps all events from role \"ROLE\": create a policy for it"},
		{"may change no row", `alter table outbox_events enable row level security; create policy p on outbox_events for select to public using (true)`,
			"row level security keeps all events from role \"ROLE\": create a policy for it"},
		{"a policy for somebody else", `alter table outbox_events enable row level security; create policy p on outbox_events to postgres using (true)`,
			"row level security keeps all events from role \"ROLE\": create a policy for it"},
		{"a policy that only takes away", `alter table outbox_events enable row level security; create policy p on outbox_events as restrictive using (true)`,
			"row level security keeps all events from role \"ROLE\": create a policy for it"},
		{"a policy that shows it rows", `alter table outbox_events enable row level security; create policy p on outbox_events to ROLE using (true)`, ""},
		{"a role that no policy keeps anything from", `alter table outbox_events enable row level security; alter role ROLE bypassrls`, ""},
		{"nothing is wrong", `select`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			role := pgtest.Role(t, db, "daemon")
			if err := migrations.Grant(t.Context(), connect(t, db, ""), role); err != nil {
				t.Fatal(err)
			}
			pgtest.Exec(t, db, strings.ReplaceAll(tt.sql, "ROLE", role))
			err := migrations.Check(t.Context(), connect(t, db, role))
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			want := strings.ReplaceAll(tt.want, "ROLE", role)
			wantError(t, err, want)
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Error("more than one line")
			}
		})
	}
}

// Every right that Check asks for is needed, and given by Grant: without any
// of it Check must not pass, with Grant it does (TestCheck).
func TestCheckAsksForAllGrants(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := pgtest.Role(t, db, "daemon")
	pgtest.Exec(t, db, `grant usage on schema outbox to `+role)
	pgtest.Exec(t, db, `grant select on outbox.schema_history to `+role)
	err := migrations.Check(t.Context(), connect(t, db, role))
	wantError(t, err, "select on public.outbox_events", "update (processed_at)", "update (lease_until)", "update (claim)",
		"select on public.outbox_events_seq_seq", "select on outbox.deliveries", "insert on outbox.deliveries", "update on outbox.deliveries",
		"select on outbox.attempts", "insert on outbox.attempts", "select on outbox.state", "update (floor) on outbox.state",
		"select on outbox.crashes", "insert on outbox.crashes", "update on outbox.crashes", "delete on outbox.crashes",
		"select on outbox.sms_counts", "insert on outbox.sms_counts", "update on outbox.sms_counts", "delete on outbox.sms_counts",
		"insert on outbox.audit", "select on outbox.pauses", "insert on outbox.pauses", "delete on outbox.pauses",
		"select on outbox.brakes", "insert on outbox.brakes", "update on outbox.brakes", "delete on outbox.brakes",
		"select on outbox.rates", "insert on outbox.rates", "update on outbox.rates", "delete on outbox.rates",
		"execute on outbox.gate_open(integer)")
}

func TestExcess(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	plain, builder, unbound := pgtest.Role(t, db, "plain"), pgtest.Role(t, db, "builder"), pgtest.Role(t, db, "unbound")
	pgtest.Exec(t, db, `alter role `+builder+` createdb createrole`)
	pgtest.Exec(t, db, `alter role `+unbound+` bypassrls`)
	for role, want := range map[string]string{
		"":      " has superuser, ",
		plain:   "",
		builder: `role "` + builder + `" has createrole, createdb, `,
		unbound: `role "` + unbound + `" has bypassrls, `,
	} {
		conn := connect(t, db, role)
		got, err := migrations.Excess(t.Context(), conn)
		if err != nil || (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q, %v", role, got, err)
		}
	}
}
