package listener_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// router is a dispatch.Router made of functions.
type router struct {
	plan   func(ev dispatch.Event) ([]dispatch.Message, error)
	render func(m dispatch.Message, steps map[string]dispatch.StepResult) (dispatch.Message, error)
}

func (r router) Plan(_ context.Context, ev dispatch.Event) ([]dispatch.Message, error) {
	return r.plan(ev)
}

func (r router) Render(_ context.Context, m dispatch.Message, steps map[string]dispatch.StepResult) (dispatch.Message, error) {
	if r.render == nil {
		m.Content = json.RawMessage(`{}`)
		return m, nil
	}
	return r.render(m, steps)
}

// routed makes a dispatcher with a router and the channel "carrier".
func routed(s dispatch.Sender, p dispatch.Policy, r router) *dispatch.Dispatcher {
	d := dispatch.New()
	d.Register("carrier", s, p)
	d.Use(r)
	return d
}

// step is a message of route "r" whose terms are frozen.
func step(name string, terms dispatch.Terms) dispatch.Message {
	terms.Freeze = true
	return dispatch.Message{Route: "r", Step: name, Channel: "carrier", Recipient: "+15005550006", Content: json.RawMessage(`{"words": "` + name + `"}`), Terms: &terms}
}

// states are the states of an event's deliveries by step.
func states(t testing.TB, db *pgtest.DB, event uuid.UUID) map[string]string {
	t.Helper()
	out := map[string]string{}
	rows, err := db.Pool.Query(t.Context(), `select step, state from outbox.deliveries where event_id = $1`, event)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var step, state string
		if err := rows.Scan(&step, &state); err != nil {
			t.Fatal(err)
		}
		out[step] = state
	}
	return out
}

func wantStates(t testing.TB, db *pgtest.DB, event uuid.UUID, want map[string]string) {
	t.Helper()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		got := states(t, db, event)
		return maps.Equal(got, want), fmt.Sprintf("states are %v, want %v", got, want)
	})
}

// TestFrozenBeforeAnythingIsSent: all steps stand in the ledger with their
// content when the first is sent, also on a channel that announces nothing, and a
// plan is made once although its listener dies.
func TestFrozenBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var mu sync.Mutex
	plans := 0
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		mu.Lock()
		defer mu.Unlock()
		plans++
		one, two := step("one", dispatch.Terms{}), step("two", dispatch.Terms{})
		two.Content = json.RawMessage(fmt.Sprintf(`{"words": "plan %d"}`, plans))
		return []dispatch.Message{one, two}, nil
	}}
	seen := make(chan []string, 10)
	gate := make(chan struct{})
	p := newProvider(func(*dispatch.Delivery) error {
		seen <- pgtest.QueryVals[string](t, db, `select step || ' ' || coalesce(content->>'words', 'sent') from outbox.deliveries order by step`)
		<-gate
		return nil
	})
	d := routed(p, plain, r)
	l := newListener(t, db, d, nil)
	stop := start(t, l)
	ev := insert(t, db, "e", `{}`)
	if got := <-seen; !slices.Equal(got, []string{"one one", "two plan 1"}) {
		t.Errorf("the ledger had %q when the first was sent", got)
	}
	close(gate)
	wantStates(t, db, ev, map[string]string{"one": "delivered", "two": "delivered"})
	processed(t, db, 5*time.Second)
	stop()
	if plans != 1 || p.count() != 2 {
		t.Errorf("%d plans and %d sent, want 1 and 2", plans, p.count())
	}
}

// TestFrozenOutlivesItsListener: what was frozen by a listener that was cut
// off is sent by the next one with the same bytes and without a new plan.
func TestFrozenOutlivesItsListener(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	plans := 0
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		plans++
		m := step("one", dispatch.Terms{})
		m.Content = json.RawMessage(fmt.Sprintf(`{"words": "plan %d"}`, plans))
		return []dispatch.Message{m}, nil
	}}
	first := newBlocker()
	l := newListener(t, db, routed(first, plain, r), func(c *listener.Config) { c.Lease = time.Second; c.ShutdownGrace = 10 * time.Millisecond })
	stop := start(t, l)
	insert(t, db, "e", `{}`)
	<-first.entered
	stop() // within its grace nothing came back
	second := newProvider(nil)
	start(t, newListener(t, db, routed(second, plain, r), func(c *listener.Config) { c.Lease = time.Second; c.PollInterval = 200 * time.Millisecond }))
	processed(t, db, 10*time.Second)
	if plans != 1 || second.count() != 1 || string(second.sent[0].Content) != `{"words": "plan 1"}` {
		t.Errorf("%d plans, sent %+v", plans, second.sent)
	}
}

// TestScheduled: a delivery that is for later does not hold its event back,
// and leaves at its time.
func TestScheduled(t *testing.T) {
	t.Parallel()
	db, p := pgtest.New(t), newProvider(nil)
	at := time.Now().Add(1500 * time.Millisecond).Truncate(time.Millisecond)
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		return []dispatch.Message{step("later", dispatch.Terms{At: at}), step("now", dispatch.Terms{})}, nil
	}}
	start(t, newListener(t, db, routed(p, plain, r), func(c *listener.Config) { c.PollInterval = 5 * time.Second }))
	ev := insert(t, db, "e", `{}`)
	processed(t, db, time.Second)
	wantStates(t, db, ev, map[string]string{"later": "scheduled", "now": "delivered"})
	wantStates(t, db, ev, map[string]string{"later": "delivered", "now": "delivered"})
	if sent := p.at[1]; sent.Before(at) || sent.Sub(at) > time.Second {
		t.Errorf("sent %s after its time", sent.Sub(at))
	}
}

// TestDeadline: what could not be sent until its deadline is expired, and no
// later attempt is made.
func TestDeadline(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p := newProvider(func(*dispatch.Delivery) error { return &dispatch.Error{Kind: dispatch.Down} })
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		return []dispatch.Message{
			step("soon", dispatch.Terms{Deadline: time.Now().Add(700 * time.Millisecond), Retry: dispatch.Retries{First: time.Hour}}),
			step("past", dispatch.Terms{Late: "2h0m0s late, its deadline is 1h0m0s"}),
		}, nil
	}}
	start(t, newListener(t, db, routed(p, plain, r), nil))
	ev := insert(t, db, "e", `{}`)
	wantStates(t, db, ev, map[string]string{"soon": "expired", "past": "expired"})
	processed(t, db, time.Second)
	if p.count() != 1 {
		t.Errorf("%d attempts, want 1", p.count())
	}
}

// TestRetriesOfARoute: attempts and waits are those of the step.
func TestRetriesOfARoute(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p := newProvider(func(*dispatch.Delivery) error { return &dispatch.Error{Kind: dispatch.Down} })
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		return []dispatch.Message{step("one", dispatch.Terms{Retry: dispatch.Retries{Attempts: 3, First: 50 * time.Millisecond, Longest: 100 * time.Millisecond}})}, nil
	}}
	start(t, newListener(t, db, routed(p, plain, r), nil))
	ev := insert(t, db, "e", `{}`)
	wantStates(t, db, ev, map[string]string{"one": "dead"})
	if p.count() != 3 {
		t.Errorf("%d attempts, want 3", p.count())
	}
}

// TestOptional: the failure of a step that is not required does not hold its
// event back.
func TestOptional(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p := newProvider(func(d *dispatch.Delivery) error {
		if d.Step == "extra" {
			return &dispatch.Error{Kind: dispatch.Down}
		}
		return nil
	})
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		return []dispatch.Message{step("main", dispatch.Terms{}), step("extra", dispatch.Terms{Optional: true, Retry: dispatch.Retries{First: time.Hour}})}, nil
	}}
	start(t, newListener(t, db, routed(p, plain, r), nil))
	ev := insert(t, db, "e", `{}`)
	wantStates(t, db, ev, map[string]string{"main": "delivered", "extra": "retry"})
	processed(t, db, 5*time.Second)
}

// TestOnceFollows: one run delivers also what waits for what it delivered.
func TestOnceFollows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		waits := func(name, after string) dispatch.Message {
			m := step(name, dispatch.Terms{After: []string{after}, Scope: json.RawMessage(`{}`)})
			m.Content = nil
			return m
		}
		return []dispatch.Message{step("one", dispatch.Terms{}), waits("two", "one"), waits("three", "two")}, nil
	}}
	ev := insert(t, db, "e", `{}`)
	st, err := newListener(t, db, routed(newProvider(nil), plain, r), nil).Once(t.Context(), 0)
	if err != nil || st.Errors != 0 || st.Processed != 3 {
		t.Errorf("%+v, %v", st, err)
	}
	wantStates(t, db, ev, map[string]string{"one": "delivered", "two": "delivered", "three": "delivered"})
	processed(t, db, time.Second)
}

// answers is a Sender made of a function, which remembers what it was given.
type answers struct {
	f func(*dispatch.Delivery) (dispatch.Receipt, error)
	*provider
}

func senderFunc(f func(*dispatch.Delivery) (dispatch.Receipt, error)) answers {
	return answers{f, newProvider(nil)}
}

func (a answers) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	if _, err := a.provider.Send(ctx, d); err != nil {
		return dispatch.Receipt{}, err
	}
	return a.f(d)
}

func (a answers) last(t testing.TB) dispatch.Delivery {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range slices.Backward(a.sent) {
		if d.Step == "tell" {
			return d
		}
	}
	t.Fatal("nothing was sent")
	return dispatch.Delivery{}
}
