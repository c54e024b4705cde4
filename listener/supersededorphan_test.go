package listener

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestSupersededOrphan: the record of a delivery that is to be sent again, and whose event was
// deleted while it was sent, is under way when a newer event supersedes it. One of the two sees
// the other.
func TestSupersededOrphan(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := &store{pool: db.Pool, lease: time.Minute}
	// The record is stopped near its end, at the event of another delivery.
	pgtest.Exec(t, db, `create function halt() returns trigger language plpgsql as $$ begin perform set_config('lock_timeout', '0', true); perform pg_advisory_xact_lock(42); return null; end $$`)
	pgtest.Exec(t, db, `create trigger halt after update on outbox_events for each row
		when (new.type = 'other' and old.processed_at is null and new.processed_at is not null) execute function halt()`)

	frozen := func(typ string, m dispatch.Message, o *dispatch.Outcome) (*job, map[uuid.UUID]string, error) {
		pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ($1, '{}')`, typ)
		claims, _, err := s.claimEvents(t.Context(), 0, top, 1, 1)
		if err != nil || len(claims) != 1 {
			t.Fatalf("%+v, %v", claims, err)
		}
		e := claims[0].events[0]
		j := e.newJob(m, 0)
		j.outcome, e.jobs = o, []*job{j}
		_, canceled, err := s.freeze(t.Context(), []entry{{event: e, rows: e.rows(s.ttl()), frozen: true}})
		j.known = true
		return j, canceled, err
	}
	reminder := dispatch.Message{Route: "r", Step: "reminder", Channel: "c", Content: []byte(`{}`), Terms: &dispatch.Terms{Freeze: true, Supersedes: "7"}}
	older, _, err := frozen("older", reminder, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := frozen("other", dispatch.Message{Route: "r", Step: "s", Channel: "c", Content: []byte(`{}`), Terms: &dispatch.Terms{Freeze: true}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'sending', attempts = 1 where id = $1`, older.ID)
	pgtest.Exec(t, db, `delete from outbox_events where type = 'older'`)
	older.outcome = &dispatch.Outcome{State: dispatch.Retry, Attempts: 1, Err: refusal(dispatch.Down)}
	other.outcome = &dispatch.Outcome{State: dispatch.Delivered, Attempts: 1}

	gate, err := db.Pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Release()
	if _, err := gate.Exec(t.Context(), `select pg_advisory_lock(42)`); err != nil {
		t.Fatal(err)
	}
	waiting := func(event ...string) bool {
		return pgtest.QueryVal[int](t, db, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and wait_event = any ($1)`, event) > 0
	}
	recorded, planned := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := s.recordDeliveries(t.Context(), []entry{{job: older}, {job: other}})
		recorded <- err
	}()
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) { return waiting("advisory"), "the record is not under way" })
	go func() {
		_, _, err := frozen("newer", reminder, &dispatch.Outcome{State: dispatch.Skipped})
		planned <- err
	}()
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		return waiting("transactionid", "tuple") || len(planned) > 0, "the newer event is neither planned nor waiting"
	})
	if _, err := gate.Exec(t.Context(), `select pg_advisory_unlock(42)`); err != nil {
		t.Fatal(err)
	}
	for _, done := range []chan error{recorded, planned} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := pgtest.QueryVal[string](t, db, `select state from outbox.deliveries where id = $1`, older.ID); got != "canceled" {
		t.Errorf("the older one is %s, and is sent after the newer one", got)
	}
}
