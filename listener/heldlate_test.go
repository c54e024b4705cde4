package listener_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestHeldLate: what was held back, and is on record as that only when the reason has
// ended and all that waited for it was made due, is not left until its own time comes, which is
// minutes away at the least.
func TestHeldLate(t *testing.T) {
	t.Parallel()
	const (
		brake = `insert into outbox.brakes (destination, reason, failures, until, probe_at) values ('braked', '', 1, now() + interval '1 hour', now() + interval '1 hour')`
		pause = `insert into outbox.pauses (kind, pattern, who, reason) values ('channel', 'braked', 'kim', 'looking')`
	)
	for _, tt := range []struct {
		name       string
		listeners  int
		begin, end string // statements that begin and end the reason
		why        string // as the ledger has it
		known      bool   // the ledger has it when it is held back
		stop       bool   // it is on record as the listener stops
	}{
		{"a brake", 1, brake, `delete from outbox.brakes`, listener.HeldBy("braked"), false, false},
		{"a brake, of one listener of two", 2, brake, `delete from outbox.brakes`, listener.HeldBy("braked"), false, false},
		{"a brake, of a delivery on its own", 1, brake, `delete from outbox.brakes`, listener.HeldBy("braked"), true, false},
		{"a brake, and the listener stops", 1, brake, `delete from outbox.brakes`, listener.HeldBy("braked"), false, true},
		{"a pause", 1, pause, `delete from outbox.pauses`, listener.PausedBy("channel", "braked"), false, false},
		{"a pause, of one listener of two", 2, pause, `delete from outbox.pauses`, listener.PausedBy("channel", "braked"), false, false},
		{"a pause, of a delivery on its own", 1, pause, `delete from outbox.pauses`, listener.PausedBy("channel", "braked"), true, false},
		{"a pause, and the listener stops", 1, pause, `delete from outbox.pauses`, listener.PausedBy("channel", "braked"), false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			pgtest.Exec(t, db, `create sequence rounds`)
			pgtest.Exec(t, db, `create function count_round() returns trigger language plpgsql as $$ begin
				if current_query() like any ('{%last_error = any (%,%last_error = $1%}') then perform nextval('rounds'); end if; return null; end $$`)
			pgtest.Exec(t, db, `create trigger count_round after update on outbox.deliveries for each statement execute function count_round()`)
			rounds := func() int { return pgtest.QueryVal[int](t, db, `select coalesce(pg_sequence_last_value('rounds'), 0)`) }
			pgtest.Exec(t, db, `create function halt() returns trigger language plpgsql as $$ begin
				perform set_config('lock_timeout', '0', true); perform pg_advisory_xact_lock_shared(42); return new; end $$`)
			pgtest.Exec(t, db, fmt.Sprintf(`create trigger halt before insert or update on outbox.deliveries for each row when (new.last_error = '%s') execute function halt()`, tt.why))
			gate, err := db.Pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer gate.Release()
			turn := func(how string) {
				if _, err := gate.Exec(t.Context(), `select pg_advisory_`+how+`(42)`); err != nil {
					t.Fatal(err)
				}
			}
			pgtest.Exec(t, db, tt.begin)

			d := dispatch.New()
			channel(d, "a", "braked", newProvider(nil), provided)
			var stop func()
			for range tt.listeners {
				l := newListener(t, db, d, func(c *listener.Config) { c.PollInterval = 500 * time.Millisecond })
				stop = start(t, l)
				listening(t, l)
			}
			held := func() int {
				return pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where last_error = $1`, tt.why)
			}
			if tt.known {
				insert(t, db, "a", `{}`)
				pgtest.Eventually(t, 10*time.Second, func() (bool, string) { return held() == 1, "it is not held back" })
				turn("lock")
				pgtest.Exec(t, db, `update outbox.deliveries set last_error = null, due_at = now()`)
			} else {
				turn("lock")
				insert(t, db, "a", `{}`)
			}
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
				n := pgtest.QueryVal[int](t, db, `select count(*) from pg_locks join pg_database as d on d.oid = database
					where datname = current_database() and locktype = 'advisory' and objid = 42 and not granted`)
				return n == 1, fmt.Sprintf("%d records are under way", n)
			})
			pgtest.Exec(t, db, tt.end)
			// Each makes it due when it hears of the end, and once more.
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
				n := rounds()
				return n >= 2*tt.listeners, fmt.Sprintf("%d rounds", n)
			})
			if held() != 0 {
				t.Fatal("it is on record before its time")
			}
			if !tt.stop {
				turn("unlock")
				processed(t, db, 10*time.Second)
				return
			}
			stopped := make(chan struct{})
			go func() { stop(); close(stopped) }()
			pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
				n := pgtest.QueryVal[int](t, db, `select count(*) from pg_stat_activity where datname = current_database() and application_name = 'outbox-listener listen'`)
				return n == 0, "it does not stop"
			})
			turn("unlock")
			<-stopped
			if wait := pgtest.QueryVal[float64](t, db, `select extract(epoch from due_at - now())::float8 from outbox.deliveries`); wait > 0 {
				t.Errorf("it is due in %f s, want at once", wait)
			}
		})
	}
}

// TestMadeDueAgain: what waited for a reason that has ended is made due when the database
// can do so again, however often that failed.
func TestMadeDueAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, begin, end string }{
		{"a brake", `insert into outbox.brakes (destination, reason, failures, until, probe_at) values ('braked', '', 1, now() + interval '1 hour', now() + interval '1 hour')`, `delete from outbox.brakes`},
		{"a pause", `insert into outbox.pauses (kind, pattern, who, reason) values ('channel', 'braked', 'kim', 'looking')`, `delete from outbox.pauses`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			pgtest.Exec(t, db, `create sequence failures`)
			pgtest.Exec(t, db, `create function fail() returns trigger language plpgsql as $$ begin
				if current_query() like any ('{%last_error = any (%,%last_error = $1%}') then raise exception 'not now: %', nextval('failures'); end if; return null; end $$`)
			pgtest.Exec(t, db, `create trigger fail before update on outbox.deliveries for each statement execute function fail()`)
			pgtest.Exec(t, db, tt.begin)
			d := dispatch.New()
			channel(d, "a", "braked", newProvider(nil), provided)
			l := newListener(t, db, d, func(c *listener.Config) { c.PollInterval = 300 * time.Millisecond })
			start(t, l)
			listening(t, l)
			insert(t, db, "a", `{}`)
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
				return pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where due_at > now() + interval '2 s'`) == 1, "it is not held back"
			})
			pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() + interval '1 hour'`)
			pgtest.Exec(t, db, tt.end)
			pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
				n := pgtest.QueryVal[int](t, db, `select coalesce(pg_sequence_last_value('failures'), 0)`)
				return n >= 4, fmt.Sprintf("%d failures", n)
			})
			pgtest.Exec(t, db, `drop trigger fail on outbox.deliveries`)
			processed(t, db, 10*time.Second)
		})
	}
}
