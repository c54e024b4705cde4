package listener_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/devpg"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestOutageLongerThanLease: what a provider took while the database was away
// is on record once it is back. The only listener does not take its own work
// for that of a dead one, to send it again or have it held.
func TestOutageLongerThanLease(t *testing.T) {
	t.Parallel()
	for _, policy := range []dispatch.Policy{plain, careful} {
		t.Run(fmt.Sprintf("announce=%t", policy.Announce), func(t *testing.T) {
			t.Parallel()
			server := pgtest.Private(t)
			db, d, b := pgtest.NewOn(t, server), dispatch.New(), newBlocker()
			channel(d, "greeting", "carrier", b, policy)
			l := newListener(t, db, d, func(c *listener.Config) { c.Lease = time.Second; c.PollInterval = 100 * time.Millisecond })
			stop := start(t, l)
			listening(t, l)
			id := insert(t, db, "greeting", `{}`)
			<-b.entered
			if err := server.Halt(t.Context(), devpg.Fast); err != nil { // the claim is on disk
				t.Fatal(err)
			}
			down := time.Now()
			close(b.gate)
			pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
				away := time.Since(down)
				return b.count() == 1 && away > 1500*time.Millisecond, away.String()
			})
			if err := server.Restart(t.Context(), devpg.Fast); err != nil {
				t.Fatal(err)
			}
			var state string
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
				err := db.Pool.QueryRow(t.Context(), `select state from outbox.deliveries where event_id = $1 and due_at is null and state <> 'sending'`, id).Scan(&state)
				return err == nil, fmt.Sprint(err)
			})
			if state != "delivered" {
				t.Errorf("it was taken, and the ledger says %s", state)
			}
			processed(t, db, 5*time.Second)
			stop()
			if stats, err := newListener(t, db, d, nil).Once(t.Context(), 0); err != nil || stats.Total != 0 {
				t.Errorf("left over: %+v, %v", stats, err)
			}
			if b.count() != 1 {
				t.Errorf("%d sent, want 1", b.count())
			}
		})
	}
}

// TestUnrecordedIsNotClaimedAgain: while the database takes neither records nor
// renewals, though it would take claims, a listener does not claim what it has
// sent and could not record.
func TestUnrecordedIsNotClaimedAgain(t *testing.T) {
	t.Parallel()
	for _, policy := range []dispatch.Policy{plain, careful} {
		t.Run(fmt.Sprintf("announce=%t", policy.Announce), func(t *testing.T) {
			t.Parallel()
			db, d, b := pgtest.New(t), dispatch.New(), newBlocker()
			channel(d, "greeting", "carrier", b, policy)
			l := newListener(t, db, d, func(c *listener.Config) { c.Lease = time.Second; c.PollInterval = 100 * time.Millisecond })
			start(t, l)
			listening(t, l)
			id := insert(t, db, "greeting", `{}`)
			<-b.entered
			pgtest.Exec(t, db, `create function full_disk() returns trigger language plpgsql as 'begin raise sqlstate ''53100''; end'`)
			pgtest.Exec(t, db, `create trigger full_disk before update on outbox_events
				for each row when (new.claim = old.claim) execute function full_disk()`)
			close(b.gate)
			pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
				over := pgtest.QueryVal[float64](t, db, `select extract(epoch from clock_timestamp() - lease_until)::float8 from outbox_events`)
				return over > 1, fmt.Sprintf("lease over for %.1f s", over)
			})
			pgtest.Exec(t, db, `drop trigger full_disk on outbox_events`)
			processed(t, db, 10*time.Second)
			if got := ledgerOf(t, db, id); got.State != "delivered" || got.Attempts != 1 || b.count() != 1 {
				t.Errorf("sent %d times, ledger %+v; want delivered once", b.count(), got)
			}
		})
	}
}

// gateLocks counts who owns the gate, and who sleeps behind it.
func gateLocks(t testing.TB, db *pgtest.DB) int {
	t.Helper()
	return pgtest.QueryVal[int](t, db, `select count(*) from pg_locks where locktype = 'advisory' and granted
		and database = (select oid from pg_database where datname = current_database()) and mode = 'ExclusiveLock'`)
}

// TestSaturatedLeaderCallsForHelp: the owner of the gate whose workers are all
// busy leaves what is new to an idle listener, long before the next sweep.
func TestSaturatedLeaderCallsForHelp(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	stuck, quick := newBlocker(), newProvider(nil)
	d1, d2 := dispatch.New(), dispatch.New()
	// So many destinations that at none of them enough waits to be put off. Of
	// the 44 that may be held 40 leave no room for a claim.
	for i := range 8 {
		channel(d1, fmt.Sprint("slow ", i), dispatch.Channel(fmt.Sprint("snail ", i)), stuck, plain)
	}
	channel(d1, "greeting", "carrier", newProvider(nil), plain)
	channel(d2, "greeting", "carrier", quick, plain)
	late := func(c *listener.Config) {
		c.Workers, c.BatchSize = 4, 20
		c.PollInterval, c.Lease = time.Hour, time.Hour
	}
	l1 := newListener(t, db, d1, late)
	start(t, l1)
	listening(t, l1)
	defer close(stuck.gate)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := gateLocks(t, db)
		return n == 2, fmt.Sprintf("%d advisory locks", n)
	})
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'slow ' || g % 8, '{}' from generate_series(1, 40) as g`)
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		h, busy := l1.Health().Held, len(stuck.entered)
		return h == 40 && busy == 4, fmt.Sprintf("%d held, %d workers busy", h, busy)
	})
	l2 := newListener(t, db, d2, late)
	start(t, l2)
	listening(t, l2)
	// A claim of 20 is a crowd: the next notification shuts the gate, however
	// slow the machine, and its owner has no room to look.
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		insert(t, db, "greeting", `{}`)
		n := gateLocks(t, db)
		return n == 1, fmt.Sprintf("%d advisory locks", n)
	})
	id := insert(t, db, "greeting", `{}`)
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		return quick.byEvent()[id] == 1, "the idle listener has not found it"
	})
}
