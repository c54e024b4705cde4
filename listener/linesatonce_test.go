package listener_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// downForAnHour is a failure after which the next attempt is an hour away.
func downForAnHour() error {
	return &dispatch.Error{Channel: "carrier", Kind: dispatch.Down, RetryAfter: time.Hour, Err: fmt.Errorf("no")}
}

// TestSupersededInAnotherLine: what is superseded by an event that stands in no line, or in
// another one, passes the turn of its own at once, without a sweep.
func TestSupersededInAnotherLine(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p := newProvider(func(d *dispatch.Delivery) error {
		if d.Step == "reminder" {
			return downForAnHour()
		}
		return nil
	})
	d := dispatch.New()
	d.Register("carrier", p, plain)
	d.Use(orderedRouter{supersedes("a")})
	start(t, newListener(t, db, d, rarely))
	older := insert(t, db, "older", `{}`)
	wantStates(t, db, older, map[string]string{"reminder": "retry"})
	next := insert(t, db, "next", `{}`)
	wantStates(t, db, next, map[string]string{"next": "ready"})
	wantStates(t, db, insert(t, db, "cancel", `{}`), map[string]string{"reminder": "skipped"})
	wantStates(t, db, older, map[string]string{"reminder": "canceled"})
	becomes(t, db, next, "delivered")
}

// TestOperatorPassesTheTurn: what a person does to a line is heard of at once, without a
// sweep: the next one goes when the first is canceled, and a replay into a line in which nobody
// stands any more.
func TestOperatorPassesTheTurn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	w := newWitness()
	w.answer = func(_ string, n int) error {
		if n == 1 {
			return downForAnHour()
		}
		return nil
	}
	first, second := insertKeyed(t, db, "a", 1), insertKeyed(t, db, "a", 2)
	l := newListener(t, db, inOrder(w), rarely)
	start(t, l)
	listening(t, l)
	becomes(t, db, first, "retry")
	becomes(t, db, second, "ready")
	o := operate.New(db.Pool)
	do := func(a operate.Action) {
		t.Helper()
		id := pgtest.QueryVal[uuid.UUID](t, db, `select id from outbox.deliveries where event_id = $1 order by id desc limit 1`, first)
		res, err := o.Do(t.Context(), operate.Request{Action: a, Filter: operate.Filter{IDs: []uuid.UUID{id}}, By: operate.By{Who: "ann", Via: "command"}})
		if err != nil || res.Done != 1 {
			t.Fatalf("%s: %+v, %v", a, res, err)
		}
	}
	do(operate.Cancel)
	becomes(t, db, second, "delivered")
	w.blameless(t)

	w.mu.Lock()
	w.answer, w.took = nil, map[string]int{} // it never arrived, and comes after the other now
	w.mu.Unlock()
	do(operate.Replay)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where event_id = $1 and state = 'delivered'`, first)
		return n == 1, "the replay was not delivered"
	})
	w.blameless(t)
}
