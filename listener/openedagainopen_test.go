package listener_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestOpenedAgainWhileOpen: what does not hold its event back and is open when that is
// opened again goes on as it stood, whatever the routes say of it by then: what a person
// is to decide keeps its reason and its time, and what is too late is not sent.
func TestOpenedAgainWhileOpen(t *testing.T) {
	t.Parallel()
	const late = `deadline = now() - interval '1 minute', `
	for _, tt := range []struct {
		name    string
		stands  string // how it stands when its event is opened again
		unknown dispatch.OnUnknown
		want    string // state, reason, and whether it has its time
		sent    int
	}{
		{"held by a person, and for later", `state = 'held', held_from = 'scheduled', stuck_at = now(), last_error = 'by kim'`, "", "held: by kim, at its time", 0},
		{"held by a person", `state = 'held', held_from = 'retry', stuck_at = now(), last_error = 'by kim', due_at = null`, "", "held: by kim", 0},
		{"held by a listener", `state = 'held', attempts = 1, stuck_at = now(), last_error = 'who knows', due_at = null`, "", "held: who knows", 0},
		{"held by a listener, and late", late + `state = 'held', attempts = 1, stuck_at = now(), last_error = 'who knows', due_at = null`, "", "held: who knows", 0},
		{"not taken yet", `state = 'retry', attempts = 1, last_error = 'busy', due_at = now() + interval '10 minutes'`, "", "delivered: busy", 1},
		{"not taken yet, and late", late + `state = 'retry', attempts = 1, last_error = 'busy', due_at = now() + interval '10 minutes'`, "", "expired: its deadline passed first", 0},
		{"never begun, and late", late + `state = 'ready', due_at = now() + interval '10 minutes'`, "", "expired: its deadline passed first", 0},
		{"of unknown outcome, and late", late + `state = 'uncertain', attempts = 1, due_at = now() + interval '10 minutes'`, dispatch.Hold, "held: may have arrived: no clear answer came: carrier: unknown: no clear answer came", 0},
	} {
		for plan, then := range map[string]func(m dispatch.Message) []dispatch.Message{
			"planned as before": func(m dispatch.Message) []dispatch.Message { return []dispatch.Message{m} },
			"planned without an end": func(m dispatch.Message) []dispatch.Message {
				m.Terms.Deadline = time.Time{}
				return []dispatch.Message{m}
			},
			"planned as late":          func(m dispatch.Message) []dispatch.Message { m.Terms.Late = "too late"; return []dispatch.Message{m} },
			"planned no more":          func(dispatch.Message) []dispatch.Message { return []dispatch.Message{step("other", dispatch.Terms{})} },
			"planned no more, nothing": func(dispatch.Message) []dispatch.Message { return nil },
		} {
			t.Run(tt.name+", "+plan, func(t *testing.T) {
				t.Parallel()
				db, p := pgtest.New(t), newProvider(nil)
				again := false
				at, deadline := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
				r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
					m := step("reminder", dispatch.Terms{At: at, Deadline: deadline, Optional: true, Retry: dispatch.Retries{OnUnknown: tt.unknown}})
					if again {
						return then(m), nil
					}
					return []dispatch.Message{m}, nil
				}}
				d := routed(p, plain, r)
				stop := start(t, newListener(t, db, d, nil))
				insert(t, db, "e", `{}`)
				processed(t, db, 5*time.Second)
				stop()
				again = true
				pgtest.Exec(t, db, `update outbox.deliveries set `+tt.stands)
				due := pgtest.QueryVal[*time.Time](t, db, `select due_at from outbox.deliveries`)
				pgtest.Exec(t, db, `update outbox_events set processed_at = null`)
				start(t, newListener(t, db, d, func(c *listener.Config) { c.PollInterval = 200 * time.Millisecond }))
				want, sent := tt.want, tt.sent
				if plan == "planned as late" {
					if want = strings.ReplaceAll(want, "its deadline passed first", "too late"); sent > 0 {
						want, sent = "expired: too late", 0
					}
				}
				pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
					got := pgtest.QueryVal[string](t, db, `select state || ': ' || coalesce(last_error, '') || case when state = 'held' and due_at is not distinct from $1 and $1 is not null then ', at its time' else '' end
						from outbox.deliveries where step = 'reminder'`, due)
					return got == want, fmt.Sprintf("it is %q, want %q", got, want)
				})
				processed(t, db, 5*time.Second)
				if n := strings.Count(fmt.Sprint(sentSteps(p)), "reminder"); n != sent {
					t.Errorf("sent %d times, want %d", n, sent)
				}
				if bad := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where step = 'reminder' and state = 'held' and (stuck_at is null or held_from is null and last_error = 'by kim')`); bad != 0 {
					t.Error("it is not held as it was")
				}
			})
		}
	}
}

// sentSteps are the steps that p was given.
func sentSteps(p *provider) (steps []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.sent {
		steps = append(steps, d.Step)
	}
	return steps
}

// TestOpenedAgainInLine: what is held and stands in a line stands there still when its
// event was opened again: what is later in the line does not pass it.
func TestOpenedAgainInLine(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p := newProvider(func(*dispatch.Delivery) error { return &dispatch.Error{Kind: dispatch.Down} })
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		return []dispatch.Message{step("reminder", dispatch.Terms{Ordering: "k", Optional: true, Retry: dispatch.Retries{First: time.Hour}})}, nil
	}}
	d := routed(p, plain, r)
	l := func() *listener.Listener {
		return newListener(t, db, d, func(c *listener.Config) { c.PollInterval = 200 * time.Millisecond })
	}
	stop := start(t, l())
	first := insert(t, db, "e", `{}`)
	wantStates(t, db, first, map[string]string{"reminder": "retry"})
	processed(t, db, 5*time.Second)
	stop()
	p.answer = nil
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'held', held_from = 'retry', stuck_at = now(), last_error = 'by kim', due_at = null`)
	pgtest.Exec(t, db, `update outbox_events set processed_at = null`)
	start(t, l())
	processed(t, db, 5*time.Second)
	second := insert(t, db, "e", `{}`)
	processed(t, db, 5*time.Second)
	got := pgtest.QueryVals[string](t, db, `select state || ' in ' || coalesce(line, '-') || ', since ' || coalesce(last_error, '') from outbox.deliveries order by event_seq`)
	if want := []string{"held in k, since by kim", "ready in k, since "}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'ready', due_at = now(), stuck_at = null, held_from = null where event_id = $1`, first)
	wantStates(t, db, first, map[string]string{"reminder": "delivered"})
	wantStates(t, db, second, map[string]string{"reminder": "delivered"})
}
