package listener_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

func stateOf(t testing.TB, db *pgtest.DB, event uuid.UUID) string {
	t.Helper()
	return pgtest.QueryVal[string](t, db, `select coalesce(max(state), 'none') from outbox.deliveries where event_id = $1`, event)
}

func becomes(t testing.TB, db *pgtest.DB, event uuid.UUID, state string) {
	t.Helper()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		got := stateOf(t, db, event)
		return got == state, "it is " + got + ", want " + state
	})
}

// rarely has a listener sweep only at its start, so that nothing is healed.
func rarely(c *listener.Config) { c.PollInterval, c.Lease = time.Hour, time.Hour }

// TestTurnPasses: what the first one comes to passes the turn at once, without a sweep,
// and until then nothing behind it leaves while other keys do.
func TestTurnPasses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		kind    dispatch.Kind
		first   string // what it becomes
		follows bool   // the next one leaves
	}{
		{"dead", dispatch.Rejected, "dead", true},
		{"to be tried again", dispatch.Down, "retry", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			w := newWitness()
			w.answer = func(key string, n int) error {
				if key == "a" && n == 1 {
					return &dispatch.Error{Channel: "carrier", Kind: tt.kind, RetryAfter: time.Hour, Err: fmt.Errorf("no")}
				}
				return nil
			}
			first, second := insertKeyed(t, db, "a", 1), insertKeyed(t, db, "a", 2)
			var others []uuid.UUID
			for n := range 20 {
				others = append(others, insertKeyed(t, db, "b", n))
			}
			start(t, newListener(t, db, inOrder(w), rarely))
			becomes(t, db, first, tt.first)
			becomes(t, db, others[19], "delivered")
			if tt.follows {
				becomes(t, db, second, "delivered")
			} else if got := stateOf(t, db, second); got != "ready" {
				t.Errorf("the second is %s, want ready", got)
			}
			w.blameless(t)
		})
	}
}

// TestWithdrawnPassesTheTurn: a person cancels what is first, or holds and releases what
// waits, and nothing leaves before its turn.
func TestWithdrawnPassesTheTurn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	w := newWitness()
	w.answer = func(_ string, n int) error {
		if n == 1 {
			return &dispatch.Error{Channel: "carrier", Kind: dispatch.Down, RetryAfter: time.Hour, Err: fmt.Errorf("no")}
		}
		return nil
	}
	first, second, third := insertKeyed(t, db, "a", 1), insertKeyed(t, db, "a", 2), insertKeyed(t, db, "a", 3)
	start(t, newListener(t, db, inOrder(w), func(c *listener.Config) { c.PollInterval = 200 * time.Millisecond }))
	becomes(t, db, first, "retry")
	becomes(t, db, third, "ready")

	o := operate.New(db.Pool)
	lines, err := o.Lines(t.Context(), 0)
	if err != nil || len(lines) != 1 || lines[0].Key != "a" || lines[0].Waiting != 2 || lines[0].First.Event != first || lines[0].First.State != dispatch.Retry {
		t.Fatalf("lines are %+v, %v", lines, err)
	}
	do := func(a operate.Action, event uuid.UUID) {
		t.Helper()
		id := pgtest.QueryVal[uuid.UUID](t, db, `select id from outbox.deliveries where event_id = $1 order by id desc limit 1`, event)
		res, err := o.Do(t.Context(), operate.Request{Action: a, Filter: operate.Filter{IDs: []uuid.UUID{id}}, By: operate.By{Who: "ann", Via: "command"}})
		if err != nil || res.Done != 1 {
			t.Fatalf("%s: %+v, %v", a, res, err)
		}
	}
	do(operate.Hold, third)
	do(operate.Release, third)
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where event_id = $1 and due_at is null`, third); n != 1 {
		t.Fatal("what was released is due before its turn")
	}
	do(operate.Hold, second)
	do(operate.Cancel, first)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where event_id = $1 and turn_at is not null and state = 'held'`, second)
		return n == 1, "the second has no turn"
	})
	if got := stateOf(t, db, third); got != "ready" {
		t.Errorf("the third is %s behind one that is held", got)
	}
	do(operate.Release, second)
	becomes(t, db, third, "delivered")
	w.blameless(t)

	w.mu.Lock()
	w.answer, w.took = nil, map[string]int{}
	w.mu.Unlock()
	do(operate.Replay, first) // it never arrived, and comes after the others now
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where event_id = $1 and state = 'delivered'`, first)
		return n == 1, "the replay was not delivered"
	})
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where line is not null`)
		return n == 0, fmt.Sprintf("%d still stand in a line", n)
	})
	w.blameless(t)
}

// TestUnplannedKeepsTheTurn: an event below whose plan cannot be made yet may have the same
// key. One of another type may not.
func TestUnplannedKeepsTheTurn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, typ string
		waits     bool
		given     bool // up, by somebody
	}{
		{"of a type in order", "ordered.slow", true, false},
		{"of a type in order, and given up", "ordered.slow", true, true},
		{"of another type", "other.slow", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			w := newWitness()
			planned := make(chan struct{})
			var plans atomic.Int32 // of the first that came to something
			d := dispatch.New()
			d.Register("carrier", w, dispatch.Policy{})
			d.Use(keyed{router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
				if ev.Type == tt.typ {
					select {
					case <-planned:
						plans.Add(1)
					default:
						return nil, fmt.Errorf("not yet")
					}
				}
				return []dispatch.Message{{Route: "r", Step: "s", Channel: "carrier", Content: json.RawMessage(ev.Payload),
					Terms: &dispatch.Terms{Freeze: true, Ordering: "a"}}}, nil
			}}})
			insert(t, db, tt.typ, `{"key": "a", "n": 1}`)
			second := insertKeyed(t, db, "a", 2)
			l := newListener(t, db, d, rarely)
			start(t, l)
			becomes(t, db, second, map[bool]string{true: "ready", false: "delivered"}[tt.waits])
			if tt.waits && w.count() > 0 {
				t.Error("it left before the first was planned")
			}
			if !tt.waits {
				return
			}
			if !tt.given {
				close(planned)
				becomes(t, db, second, "delivered")
				w.blameless(t)
				return
			}
			pgtest.Exec(t, db, `update public.outbox_events set processed_at = now()
				where type = $1 and processed_at is null and lease_until is distinct from 'infinity'`, tt.typ) // as docs/operate.md says
			becomes(t, db, second, "delivered")
			close(planned) // too late: nothing of it is sent
			pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
				n, held := plans.Load(), l.Health().Held
				return n > 0 && held == 0, fmt.Sprintf("planned %d times, %d held", n, held)
			})
			if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where event_type = $1`, tt.typ); n > 0 || w.count() != 1 {
				t.Errorf("what was given up has %d deliveries; %d were sent in all", n, w.count())
			}
		})
	}
}

// TestLateCommit: a transaction that began first and commits last is not under way at the
// same time as the other one.
func TestLateCommit(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	w := newWitness()
	w.slow = true
	start(t, newListener(t, db, inOrder(w), nil))
	late, err := db.Pool.BeginTx(t.Context(), pgx.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := late.Exec(t.Context(), `insert into outbox_events (type, payload) values ('ordered.s', '{"key": "a", "n": 9}')`); err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		insertKeyed(t, db, "a", n)
	}
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	pgtest.Drains(t, 10*time.Second, "events are not processed", func() int {
		return pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where processed_at is null`)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.strange {
		if !strings.Contains(s, "after 9 was taken") {
			t.Error(s)
		}
	}
}

// TestStepsInOrder: the steps of one event go by their after, and the next event comes
// when all of them are over.
func TestStepsInOrder(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p := newProvider(nil)
	plan := func(dispatch.Event) ([]dispatch.Message, error) {
		first := step("first", dispatch.Terms{Ordering: "a"})
		then := step("then", dispatch.Terms{Ordering: "a", After: []string{"first"}, Scope: json.RawMessage(`{}`)})
		then.Content = nil
		skipped := step("skipped", dispatch.Terms{Ordering: "a"})
		skipped.Skip = "not wanted"
		last := step("last", dispatch.Terms{Ordering: "a", After: []string{"skipped"}, Scope: json.RawMessage(`{}`)})
		last.Content = nil
		return []dispatch.Message{first, then, skipped, last}, nil
	}
	d := dispatch.New()
	d.Register("carrier", p, dispatch.Policy{})
	d.Use(keyed{router{plan: plan}})
	one, two := insertKeyed(t, db, "a", 1), insertKeyed(t, db, "a", 2)
	start(t, newListener(t, db, d, rarely))
	want := map[string]string{"first": "delivered", "then": "delivered", "skipped": "skipped", "last": "delivered"}
	wantStates(t, db, one, want)
	wantStates(t, db, two, want)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range p.sent {
		if want := map[bool]uuid.UUID{true: one, false: two}[i < 3]; s.EventID != want {
			t.Errorf("delivery %d, %s, is of the wrong event", i, s.Step)
		}
	}
}

// TestWholeTurn: an event of which one delivery is locked when its turn comes, as by a person
// who has looked at it, gets the turn later and as a whole. Where a step had it
// without the one that it waits for, neither would ever be sent.
func TestWholeTurn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p := newProvider(func(d *dispatch.Delivery) error {
		if d.Step == "first" && string(d.Content) == `{"n": 1}` {
			return &dispatch.Error{Channel: "carrier", Kind: dispatch.Down, RetryAfter: time.Hour, Err: fmt.Errorf("no")}
		}
		return nil
	})
	d := dispatch.New()
	d.Register("carrier", p, dispatch.Policy{})
	d.Use(keyed{router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
		first := step("first", dispatch.Terms{Ordering: "a"})
		first.Content = ev.Payload
		then := step("then", dispatch.Terms{Ordering: "a", After: []string{"first"}, Scope: json.RawMessage(`{}`)})
		then.Content = nil
		return []dispatch.Message{first, then}, nil
	}}})
	one, two := insert(t, db, "ordered.s", `{"n": 1}`), insert(t, db, "ordered.s", `{"n": 2}`)
	start(t, newListener(t, db, d, func(c *listener.Config) { c.PollInterval = 100 * time.Millisecond }))
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where step = 'first' and (event_id = $1 and state = 'retry' or event_id = $2)`, one, two)
		return n == 2, "the first is not tried and the second planned"
	})
	tx, err := db.Pool.BeginTx(t.Context(), pgx.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `select from outbox.deliveries where event_id = $1 and step = 'first' for no key update`, two); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'canceled', finished_at = now(), due_at = null where event_id = $1`, one)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) { // whoever passes the turn has what is over leave
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where event_id = $1 and line is not null`, one)
		return n == 0, fmt.Sprintf("%d of the first stand in the line", n)
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantStates(t, db, two, map[string]string{"first": "delivered", "then": "delivered"})
}
