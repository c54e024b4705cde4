package listener_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestWithdrawnEventIsNotSent: an event that was claimed, and deleted or
// marked as processed before its delivery was announced, is neither sent nor
// written into the ledger.
func TestWithdrawnEventIsNotSent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, sql string }{
		{"deleted", `delete from outbox_events where id = $1`},
		{"marked processed", `update outbox_events set processed_at = now() where id = $1`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, d, b := pgtest.New(t), dispatch.New(), newBlocker()
			channel(d, "greeting", "carrier", b, careful)
			pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(1, 2)`)
			l := newListener(t, db, d, func(c *listener.Config) { c.Workers = 1 })
			stop := start(t, l)
			first := <-b.entered // and with it the second was claimed
			second := pgtest.QueryVal[uuid.UUID](t, db, `select id from outbox_events where id <> $1`, first)
			pgtest.Exec(t, db, tt.sql, second)
			close(b.gate)
			third := insert(t, db, "greeting", `{}`)
			pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
				return b.byEvent()[third] == 1 && l.Health().Held == 0, fmt.Sprintf("%d sent, %d held", b.count(), l.Health().Held)
			})
			stop()
			if stats, err := newListener(t, db, d, nil).Once(t.Context(), 0); err != nil || stats.Total != 0 {
				t.Errorf("left over: %+v, %v", stats, err)
			}
			if got := b.byEvent(); len(got) != 2 || got[second] != 0 {
				t.Errorf("sent %v, want all but %s", got, second)
			}
			if got := pgtest.QueryVals[string](t, db, `select state from outbox.deliveries where event_id = $1`, second); len(got) != 0 {
				t.Errorf("the ledger has it as %v", got)
			}
		})
	}
}

// TestParkingBesideAnnouncement: a delivery whose announcement takes so long
// that its event is parked meanwhile stays announced while it is being sent.
func TestParkingBesideAnnouncement(t *testing.T) {
	t.Parallel()
	db, d, b := pgtest.New(t), dispatch.New(), newBlocker()
	channel(d, "greeting", "carrier", b, careful)
	// Only the first insert is slow: the announcement.
	pgtest.Exec(t, db, `create sequence dawdled`)
	pgtest.Exec(t, db, `create function dawdle() returns trigger language plpgsql as
		'begin if nextval(''dawdled'') = 1 then perform pg_sleep(1.6); end if; return new; end'`)
	pgtest.Exec(t, db, `create trigger dawdle before insert on outbox.deliveries for each row execute function dawdle()`)
	l := newListener(t, db, d, func(c *listener.Config) { c.Lease = 10 * time.Second })
	start(t, l)
	id := insert(t, db, "greeting", `{"n": 1}`)
	<-b.entered
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		free := pgtest.QueryVal[string](t, db, `select coalesce(lease_until::text, 'free') from outbox_events`)
		return free == "infinity", "not parked: " + free
	})
	if got := ledgerOf(t, db, id); got.State != "sending" || got.Attempts != 1 || !got.Due {
		t.Errorf("while it is being sent: %+v", got)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where content is null`); n != 0 {
		t.Error("parking lost the content that the announcement had frozen")
	}
	// The process freezes, and another takes over what may have left.
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() - interval '1 second', claim = gen_random_uuid()`)
	taker, d2 := newProvider(nil), dispatch.New()
	channel(d2, "greeting", "carrier", taker, careful)
	if _, err := newListener(t, db, d2, nil).Once(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if taker.count() != 0 {
		t.Errorf("sent again by the one that took over; ledger %+v", ledgerOf(t, db, id))
	}
	close(b.gate)
}
