package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// recipe returns the statements of docs/retention.md for partitions, in the
// order of the page, with other roles in them.
func recipe(t *testing.T, app string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "retention.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n## Partitions\n")
	steps := page{"docs/retention.md", after}.blocks("sql")
	if !ok || len(steps) != 6 {
		t.Fatalf("%d steps found", len(steps))
	}
	for i := range steps {
		steps[i] = strings.ReplaceAll(steps[i], " to app;", " to "+app+";")
	}
	return steps
}

// TestPartitions: the recipe of docs/retention.md turns a table in use into a
// partitioned one, while listeners of the daemon's role go on; they deliver
// from it over the bound of a partition, and an old one can be dropped.
func TestPartitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	db := w.db
	app, daemon := pgtest.Role(t, db, "app"), pgtest.Role(t, db, "daemon")
	migrate := func(args ...string) string {
		t.Helper()
		out, _, err := migrateWith(t, db.URL, args...)
		if err != nil {
			t.Fatalf("migrate %q: %v", args, err)
		}
		return out
	}
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	run := func(sql string) {
		t.Helper()
		for statement := range strings.SplitSeq(sql, ";\n") { // each by itself, as psql does
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
	}
	steps := recipe(t, app)

	migrate("--grant", daemon)
	cfg := conn.Config()
	env := map[string]string{"OUTBOX_POLL_INTERVAL_MS": "500", "OUTBOX_LOG_LEVEL": "info", "OUTBOX_RETAIN_PROCESSED": "1h",
		"DATABASE_URL": fmt.Sprintf("postgres://%s:secret@%s:%d/%s?sslmode=disable", daemon, cfg.Host, cfg.Port, db.Name)}
	if strings.HasPrefix(cfg.Host, "/") {
		env["DATABASE_URL"] = fmt.Sprintf("host=%s port=%d user=%s password=secret dbname=%s", cfg.Host, cfg.Port, daemon, db.Name)
	}
	process := startListener(t, env)
	send := func(n int) { // as the application's role
		t.Helper()
		run(`set role ` + app)
		for range n {
			run(`insert into public.outbox_events (type, payload) values ('discard.send', '{}')`)
		}
		run(`reset role`)
	}
	pgtest.Exec(t, db, `grant insert (id, type, payload) on public.outbox_events to `+app)
	send(20)
	processed(t, db)

	run(steps[0])
	run(steps[1])
	send(1) // the application goes on between the steps
	if out := migrate("--grant", daemon); !strings.Contains(out, "wake.sql") {
		t.Errorf("migrate says %q", out)
	}
	if out := migrate("status"); !strings.Contains(out, "up to date") {
		t.Errorf("status says %q", out)
	}
	migrate() // nothing to do
	send(5)
	processed(t, db)
	if n := pgtest.QueryVal[int](t, db, `select count(*) from public.outbox_events_p1`); n != 26 {
		t.Errorf("%d events in the first partition", n)
	}

	// Over the bound, and into a partition that is made later.
	run(`select setval('public.outbox_events_seq_seq', 9999990)`)
	send(20)
	run(steps[2])
	run(`select setval('public.outbox_events_seq_seq', 19999990)`)
	send(20)
	processed(t, db)
	const places = `select (select count(*) from public.outbox_events_p1) || ' ' || (select count(*) from public.outbox_events_p2)
		|| ' ' || (select count(*) from public.outbox_events_p3)`
	if got := pgtest.QueryVal[string](t, db, places); got != "35 21 10" && got != "36 20 10" && got != "35 20 11" {
		t.Errorf("events in the partitions: %s", got)
	}

	// Asleep, it is woken through the new table.
	run(`listen outbox_events`)
	asleep := `select count(*) from pg_locks where locktype = 'advisory' and granted and mode = 'ExclusiveLock'
		and database = (select oid from pg_database where datname = current_database())`
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, asleep)
		return n == 2, fmt.Sprintf("%d advisory locks", n) // the gate and its ownership
	})
	pgtest.Exec(t, db, `insert into public.outbox_events (type, payload) values ('discard.send', '{}')`)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := conn.WaitForNotification(ctx); err != nil {
		t.Errorf("nobody is woken: %v", err)
	}
	for _, partition := range []string{"p1", "p2", "p3"} {
		if got := pgtest.QueryVal[string](t, db, `select string_agg(tgname, ' ' order by tgname) from pg_trigger where not tgisinternal
			and tgrelid = ('public.outbox_events_' || $1)::regclass`, partition); got != "outbox_events_reopen outbox_events_seq" {
			t.Errorf("triggers of %s: %s", partition, got)
		}
		if got := pgtest.QueryVal[string](t, db, `select array_to_string(reloptions, ' ') from pg_class where oid = ('public.outbox_events_' || $1)::regclass`, partition); got != "fillfactor=33" {
			t.Errorf("options of %s: %s", partition, got)
		}
	}

	// An event that is opened again moves to the newest partition, and its
	// ledger goes with it.
	if n := pgtest.Exec(t, db, `update public.outbox_events set processed_at = null where seq = 3`); n != 1 {
		t.Fatalf("%d events opened", n)
	}
	processed(t, db)
	if n := pgtest.QueryVal[int](t, db, `select count(*) from public.outbox_events_p3 as e join outbox.deliveries as d on d.event_seq = e.seq and d.event_id = e.id`); n < 11 {
		t.Errorf("%d deliveries of the last partition", n)
	}

	// Retention walks over partitions too.
	pgtest.Exec(t, db, `update public.outbox_events set processed_at = now() - interval '2 hours' where seq < 10`)
	out := call(t, map[string]string{"DATABASE_URL": env["DATABASE_URL"], "OUTBOX_RETAIN_PROCESSED": "1h"}, "--once")
	if out.code != exitOK || !strings.Contains(out.stderr, "grant delete on public.outbox_events to") {
		t.Errorf("exit code %d, %s", out.code, out.stderr)
	}
	pgtest.Exec(t, db, `grant delete on public.outbox_events to `+daemon)
	if out := call(t, map[string]string{"DATABASE_URL": env["DATABASE_URL"], "OUTBOX_RETAIN_PROCESSED": "1h"}, "--once"); out.code != exitOK {
		t.Errorf("exit code %d, %s", out.code, out.stderr)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from public.outbox_events where seq < 10`); n != 0 {
		t.Errorf("%d events left that are older than their retention", n)
	}

	// The old partition may go, but not while something in it waits.
	may := func() bool {
		t.Helper()
		return pgtest.QueryVal[bool](t, db, steps[3])
	}
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) { return may(), "the first partition may not go" })
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'held', finished_at = null where event_seq = 15`)
	if may() {
		t.Error("a partition may go while a delivery of it is held")
	}
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'delivered', finished_at = now() where event_seq = 15`)
	run(steps[4])
	send(5)
	processed(t, db)
	if n := pgtest.QueryVal[int](t, db, `select count(*) from public.outbox_events where seq < 10000000`); n != 0 {
		t.Errorf("%d events left of the partition that was dropped", n)
	}
	if out := migrate("status"); !strings.Contains(out, "up to date") {
		t.Errorf("status says %q", out)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from (select event_id from outbox.deliveries group by event_id having count(*) > 1) as twice`); n != 0 {
		t.Errorf("%d events were delivered twice", n)
	}
	if _, _, err := migrateWith(t, db.URL, "uninstall", "--force"); err == nil || !strings.Contains(err.Error(), "is partitioned by our column seq") {
		t.Errorf("uninstall: %v", err)
	}

	// And back to an ordinary table, which goes on and can be let go.
	before := pgtest.QueryVal[int](t, db, `select count(*) from public.outbox_events`)
	run(steps[5])
	send(1)
	migrate("--grant", daemon)
	send(5)
	processed(t, db)
	run(`drop table public.outbox_events_parts`)
	if n := pgtest.QueryVal[int](t, db, `select count(*) from public.outbox_events`); n != before+6 {
		t.Errorf("%d events, want %d", n, before+6)
	}
	send(5)
	processed(t, db)
	if out := migrate("status"); !strings.Contains(out, "up to date") {
		t.Errorf("status says %q", out)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from (select event_id from outbox.deliveries group by event_id having count(*) > 1) as twice`); n != 0 {
		t.Errorf("%d events were delivered twice", n)
	}
	process.signal(os.Interrupt)
	if code := process.exit(20 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if _, _, err := migrateWith(t, db.URL, "uninstall", "--force"); err != nil {
		t.Errorf("uninstall: %v", err)
	}
}
