package listener_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

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
