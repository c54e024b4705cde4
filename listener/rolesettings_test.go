package listener_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestDefaultsOfADatabase: what a role or a database has as its defaults makes no
// difference to how a listener writes. The level of isolation is READ COMMITTED,
// and what must not be forgotten in a crash of the server waits for its disk.
func TestDefaultsOfADatabase(t *testing.T) {
	t.Parallel()
	db, d := pgtest.New(t), dispatch.New()
	channel(d, "greeting", "carrier", newProvider(nil), plain)
	channel(d, "careful", "courier", newProvider(nil), careful)
	channel(d, "refused", "carrier pigeon", newProvider(func(d *dispatch.Delivery) error {
		return &dispatch.Error{Channel: d.Channel, Kind: dispatch.Rejected, Err: errors.New("no")}
	}), plain)
	for _, typ := range []string{"greeting", "careful", "refused"} {
		insert(t, db, typ, `{}`)
	}
	pgtest.Exec(t, db, `create table seen (what text, level text, flushed text)`)
	pgtest.Exec(t, db, `create function see() returns trigger language plpgsql as $$
		begin
			insert into public.seen values (tg_argv[0], current_setting('transaction_isolation'), current_setting('synchronous_commit'));
			return null;
		end $$`)
	for what, where := range map[string]string{
		"claim":     `update on outbox_events for each row when (old.claim is distinct from new.claim)`,
		"processed": `update on outbox_events for each row when (old.processed_at is null and new.processed_at is not null)`,
		"announced": `insert on outbox.deliveries for each row when (new.state = 'sending')`,
		"delivered": `insert on outbox.deliveries for each row when (new.state = 'delivered')`,
		"updated":   `update on outbox.deliveries for each row when (new.state = 'delivered')`,
		"attempt":   `insert on outbox.attempts for each row`,
	} {
		pgtest.Exec(t, db, `create trigger see_`+what+` after `+where+` execute function see('`+what+`')`)
	}
	for _, setting := range []string{
		`default_transaction_isolation = 'serializable'`, `default_transaction_read_only = on`, `synchronous_commit = off`,
		`search_path = ''`, `timezone = 'Asia/Kathmandu'`,
	} {
		pgtest.Exec(t, db, `do $$ begin execute format('alter database %I set `+strings.ReplaceAll(setting, `'`, `''`)+`', current_database()); end $$`)
	}
	if stats, err := newListener(t, db, d, func(c *listener.Config) { c.Lease = time.Minute }).Once(t.Context(), 0); err != nil || stats.Processed != 2 || stats.Errors != 1 {
		t.Fatalf("%+v, %v", stats, err)
	}
	type seen struct{ What, Level, Flushed string }
	rows, err := db.Pool.Query(t.Context(), `select distinct what, level, flushed from seen order by what`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	got := map[string]bool{}
	for rows.Next() {
		var s seen
		if err := rows.Scan(&s.What, &s.Level, &s.Flushed); err != nil {
			t.Fatal(err)
		}
		got[s.What] = true
		if s.Level != "read committed" {
			t.Errorf("%s: written in %s", s.What, s.Level)
		}
		if s.What != "claim" && s.Flushed != "on" {
			t.Errorf("%s: synchronous_commit is %s", s.What, s.Flushed)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"claim", "processed", "announced", "delivered", "updated", "attempt"} {
		if !got[what] {
			t.Errorf("%s was not seen", what)
		}
	}
}
