package listener_test

import (
	"context"
	"encoding/json"
	"errors"
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

// TestSuperseded: of a step and a business key only the newest event's
// delivery is sent, whichever was planned first.
func TestSuperseded(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"older first", "newer first"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			db, p := pgtest.New(t), newProvider(nil)
			var mu sync.Mutex
			newerPlanned := order == "older first"
			r := router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
				mu.Lock()
				defer mu.Unlock()
				if ev.Type == "older" && !newerPlanned {
					return nil, errors.New("not now")
				}
				if ev.Type == "newer" {
					newerPlanned = true
				}
				reminder := step("reminder", dispatch.Terms{At: time.Now().Add(time.Hour), Supersedes: "appointment 7"})
				other := step("other", dispatch.Terms{At: time.Now().Add(time.Hour), Supersedes: "appointment 8"})
				other.Step += ev.Type
				return []dispatch.Message{reminder, other, step("confirmation", dispatch.Terms{})}, nil
			}}
			start(t, newListener(t, db, routed(p, plain, r), func(c *listener.Config) { c.Lease = time.Second; c.PollInterval = 300 * time.Millisecond }))
			older := insert(t, db, "older", `{}`)
			if order == "older first" {
				wantStates(t, db, older, map[string]string{"reminder": "scheduled", "otherolder": "scheduled", "confirmation": "delivered"})
			}
			newer := insert(t, db, "newer", `{}`)
			wantStates(t, db, newer, map[string]string{"reminder": "scheduled", "othernewer": "scheduled", "confirmation": "delivered"})
			wantStates(t, db, older, map[string]string{"reminder": "canceled", "otherolder": "scheduled", "confirmation": "delivered"})
			processed(t, db, 5*time.Second)
		})
	}
}

// TestSupersededWhileOpen: an older event that waits for nothing else is
// processed once its delivery is canceled, and a step without a delivery of its
// own, which only withdraws, cancels too.
func TestSupersededWhileOpen(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p := newProvider(func(*dispatch.Delivery) error { return &dispatch.Error{Kind: dispatch.Down} })
	r := router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
		if ev.Type == "cancel" {
			return []dispatch.Message{{Route: "c", Step: "reminder", Skip: "cancels earlier deliveries", Terms: &dispatch.Terms{Freeze: true, Supersedes: "7"}}}, nil
		}
		return []dispatch.Message{step("reminder", dispatch.Terms{Supersedes: "7", Retry: dispatch.Retries{First: time.Hour}})}, nil
	}}
	start(t, newListener(t, db, routed(p, plain, r), nil))
	first := insert(t, db, "e", `{}`)
	wantStates(t, db, first, map[string]string{"reminder": "retry"})
	insert(t, db, "cancel", `{}`)
	wantStates(t, db, first, map[string]string{"reminder": "canceled"})
	processed(t, db, 5*time.Second)
	if p.count() != 1 {
		t.Errorf("%d sent, want 1", p.count())
	}
}

// TestSupersededWhileSending: what is being sent may have arrived, and is not
// canceled by a newer event. Where it turns out that it was not taken, it is, in the
// place of another attempt.
func TestSupersededWhileSending(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer error
		want   map[string]string
	}{
		{"taken", nil, map[string]string{"reminder": "delivered", "then": "delivered"}},
		{"not taken", &dispatch.Error{Kind: dispatch.Down}, map[string]string{"reminder": "canceled", "then": "skipped"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, b := pgtest.New(t), newBlocker()
			b.answer = func(*dispatch.Delivery) error { return tt.answer }
			r := router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
				if ev.Type == "cancel" {
					return []dispatch.Message{{Route: "c", Step: "reminder", Skip: "cancels earlier deliveries", Terms: &dispatch.Terms{Freeze: true, Supersedes: "7"}}}, nil
				}
				then := step("then", dispatch.Terms{After: []string{"reminder"}, Scope: json.RawMessage(`{}`)})
				then.Content = nil
				return []dispatch.Message{step("reminder", dispatch.Terms{Supersedes: "7", Retry: dispatch.Retries{First: time.Millisecond}}), then}, nil
			}, render: func(m dispatch.Message, steps map[string]dispatch.StepResult) (dispatch.Message, error) {
				if m.Content = json.RawMessage(`{}`); steps["reminder"].State != dispatch.Delivered {
					m.Skip = "the reminder was not delivered"
				}
				return m, nil
			}}
			start(t, newListener(t, db, routed(b, plain, r), nil))
			first := insert(t, db, "e", `{}`)
			<-b.entered
			second := insert(t, db, "cancel", `{}`)
			wantStates(t, db, second, map[string]string{"reminder": "skipped"})
			wantStates(t, db, first, map[string]string{"reminder": "sending", "then": "ready"})
			close(b.gate)
			wantStates(t, db, first, tt.want)
			processed(t, db, 5*time.Second)
			b.mu.Lock()
			defer b.mu.Unlock()
			for i, d := range b.sent {
				if i > 0 && d.Step == "reminder" {
					t.Error("the reminder was sent again")
				}
			}
		})
	}
}

// TestSupersededWhileHeld: what is held since it may have arrived waits for a
// person, whatever comes after it; what is held for another reason and has
// certainly not arrived is superseded.
func TestSupersededWhileHeld(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		answer   dispatch.Kind // to the first attempt; "" where none is made
		unknown  dispatch.OnUnknown
		first    string // its state then
		meddle   string // SQL before it is kept from its recipient; "-" where it is not
		attempts int
		want     string
	}{
		{"kept from its recipient", "", "", "", "", 0, "canceled"},
		{"not taken, then kept from its recipient", dispatch.Down, "", "retry", "", 1, "canceled"},
		{"may have arrived", dispatch.Unknown, dispatch.Hold, "held", "-", 1, "held"},
		{"may have arrived, then kept from its recipient", dispatch.Unknown, dispatch.Resend, "uncertain", "", 1, "held"},
		{"not taken, begun by a listener that died, then kept from its recipient", dispatch.Down, "", "retry",
			`update outbox.deliveries set state = 'sending', attempts = 2`, 2, "held"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
				return []dispatch.Message{step("reminder", dispatch.Terms{Supersedes: "7", Retry: dispatch.Retries{First: time.Hour, OnUnknown: tt.unknown}})}, nil
			}}
			d := routed(newProvider(func(*dispatch.Delivery) error { return &dispatch.Error{Kind: tt.answer} }), plain, r)
			kept := func(c *listener.Config) { c.Redirect.Allow = dispatch.Recipients{"+15550100123"} }
			older := insert(t, db, "e", `{}`)
			once := func(change func(*listener.Config)) {
				t.Helper()
				if _, err := newListener(t, db, d, change).Once(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
			}
			if tt.answer != "" {
				once(nil)
				wantStates(t, db, older, map[string]string{"reminder": tt.first})
			}
			if tt.meddle != "-" {
				if tt.meddle != "" {
					pgtest.Exec(t, db, tt.meddle)
				}
				pgtest.Exec(t, db, `update outbox.deliveries set due_at = now()`)
				once(kept)
			}
			if l := ledgerOf(t, db, older); l.State != "held" || l.Attempts != tt.attempts {
				t.Fatalf("before: %+v", l)
			}
			newer := insert(t, db, "e", `{}`)
			once(kept)
			wantStates(t, db, newer, map[string]string{"reminder": "held"})
			if l := ledgerOf(t, db, older); l.State != tt.want || l.Attempts != tt.attempts {
				t.Errorf("%+v, want it %s", l, tt.want)
			}
			if open := pgtest.QueryVal[bool](t, db, `select processed_at is null from outbox_events where id = $1`, older); open != (tt.want == "held") {
				t.Errorf("the older event is open: %t", open)
			}
		})
	}
}

// TestAfter: a step waits for others, is rendered once from their answers, and
// is skipped where one was not delivered.
func TestAfter(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	answering := senderFunc(func(d *dispatch.Delivery) (dispatch.Receipt, error) {
		switch {
		case d.Step == "ask" && d.Type == "bad":
			return dispatch.Receipt{}, &dispatch.Error{Kind: dispatch.Rejected}
		case d.Step == "ask":
			return dispatch.Receipt{Answer: json.RawMessage(`{"id": 12345678901234567890.10}`)}, nil
		}
		return dispatch.Receipt{}, nil
	})
	renders := make(chan dispatch.Message, 10)
	r := router{
		plan: func(dispatch.Event) ([]dispatch.Message, error) {
			tell := step("tell", dispatch.Terms{After: []string{"ask"}, Scope: json.RawMessage(`{"name": "Ann"}`)})
			tell.Content, tell.Recipient = nil, ""
			return []dispatch.Message{step("ask", dispatch.Terms{}), tell}, nil
		},
		render: func(m dispatch.Message, steps map[string]dispatch.StepResult) (dispatch.Message, error) {
			renders <- m
			if steps["ask"].State != dispatch.Delivered {
				m.Skip = "step ask was " + string(steps["ask"].State)
				return m, nil
			}
			m.Content = json.RawMessage(fmt.Sprintf(`{"scope": %s, "answer": %s}`, m.Terms.Scope, steps["ask"].Answer))
			return m, nil
		},
	}
	start(t, newListener(t, db, routed(answering, plain, r), nil))
	good := insert(t, db, "good", `{}`)
	wantStates(t, db, good, map[string]string{"ask": "delivered", "tell": "delivered"})
	bad := insert(t, db, "bad", `{}`)
	wantStates(t, db, bad, map[string]string{"ask": "dead", "tell": "skipped"})
	processed(t, db, 5*time.Second)
	if len(renders) != 2 {
		t.Errorf("rendered %d times, want 2", len(renders))
	}
	sent := answering.last(t)
	if want := `{"scope": {"name": "Ann"}, "answer": {"id": 12345678901234567890.10}}`; string(sent.Content) != want {
		t.Errorf("sent %s, want %s", sent.Content, want)
	}
}

// TestAfterWhatNeverBegins: a step is rendered as well where those before it are
// over with the plan already: skipped, refused, or too late. Nothing would make it
// due afterwards.
func TestAfterWhatNeverBegins(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*dispatch.Message)
		before string
	}{
		{"skipped", func(m *dispatch.Message) { m.Skip = "nobody" }, "skipped"},
		{"refused", func(m *dispatch.Message) { m.Refused = "never" }, "dead"},
		{"late", func(m *dispatch.Message) { m.Terms.Late = "late" }, "expired"},
		{"not configured", func(m *dispatch.Message) { m.Channel = "pigeon" }, "skipped"},
	} {
		for _, mode := range []string{"daemon", "once"} {
			t.Run(tt.name+" "+mode, func(t *testing.T) {
				t.Parallel()
				db := pgtest.New(t)
				r := router{
					plan: func(dispatch.Event) ([]dispatch.Message, error) {
						waits := func(name, after string) dispatch.Message {
							m := step(name, dispatch.Terms{After: []string{after}, Scope: json.RawMessage(`{}`)})
							m.Content = nil
							return m
						}
						one := step("one", dispatch.Terms{})
						tt.change(&one)
						return []dispatch.Message{one, waits("two", "one"), waits("three", "two")}, nil
					},
					render: func(m dispatch.Message, steps map[string]dispatch.StepResult) (dispatch.Message, error) {
						for name, s := range steps {
							m.Skip = name + " was " + string(s.State)
						}
						return m, nil
					},
				}
				l := newListener(t, db, routed(newProvider(nil), plain, r), nil)
				ev := insert(t, db, "e", `{}`)
				if mode == "daemon" {
					start(t, l)
				} else if _, err := l.Once(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
				wantStates(t, db, ev, map[string]string{"one": tt.before, "two": "skipped", "three": "skipped"})
				processed(t, db, 5*time.Second)
				if got := pgtest.QueryVal[string](t, db, `select last_error from outbox.deliveries where step = 'two'`); got != "one was "+tt.before {
					t.Errorf("two: %s", got)
				}
			})
		}
	}
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
