package listener_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

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
