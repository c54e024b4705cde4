package operate_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// TestLeftAsSending: what stands as being sent and is not, by what became of it.
func TestLeftAsSending(t *testing.T) {
	t.Parallel()
	const (
		sending = "being sent at this moment"
		unclear = "what became of its last attempt is not known yet"
		stray   = "its event was deleted while it was being sent: to be canceled"
		deleted = "delete from outbox_events"
	)
	for _, tt := range []struct {
		name, set, and string
		refused        string // what a hold is answered
		canceled       bool
	}{
		{"by a listener that died, a moment ago", "claim = gen_random_uuid(), due_at = now() - interval '1 second'", "", sending, false},
		{"put off, since its channel is paused", "claim = '00000000-0000-5000-8000-000000000000', due_at = now() + interval '5 minutes'", "", unclear, false},
		{"handed back", "claim = null, due_at = now()", "", unclear, false},
		{"with its event, which was deleted", "claim = gen_random_uuid(), due_at = null", deleted, sending, false},
		{"with its event, which was deleted long ago", "claim = gen_random_uuid(), due_at = null, created_at = now() - interval '61 minutes'", deleted, stray, true},
		{"announced again with its event, which was deleted", "claim = gen_random_uuid(), due_at = null, created_at = now() - interval '2 hours', announced_at = now() - interval '59 minutes'", deleted, sending, false},
		{"with its event, for long", "claim = gen_random_uuid(), due_at = null, created_at = now() - interval '2 hours'", "", sending, false},
		{"by itself, though its event was deleted long ago", "claim = gen_random_uuid(), due_at = now() + interval '20 seconds', created_at = now() - interval '2 hours'", deleted, sending, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			retrying(w, 1)
			pgtest.Exec(t, w.db, `update outbox.deliveries set state = 'sending', attempts = 2, `+tt.set)
			if tt.and != "" {
				pgtest.Exec(t, w.db, tt.and)
			}
			f := operate.Filter{IDs: pgtest.QueryVals[uuid.UUID](t, w.db, `select id from outbox.deliveries`)}
			if res := w.do(operate.Request{Action: operate.Hold, Filter: f}); res.Done != 0 || res.Refused[0].Reason != tt.refused {
				t.Errorf("hold: %+v, want %q", res, tt.refused)
			}
			if res := w.do(operate.Request{Action: operate.Cancel, Filter: f}); (res.Done == 1) != tt.canceled || w.count(`state = 'canceled'`) != res.Done {
				t.Errorf("cancel: %+v, want it done: %t", res, tt.canceled)
			}
			if !tt.canceled {
				return
			}
			if res := w.do(operate.Request{Action: operate.Replay, Filter: f}); res.Done != 0 {
				t.Errorf("replayed, though it may have arrived: %+v", res)
			}
			if res := w.do(operate.Request{Action: operate.Replay, Filter: f, EvenUncertain: true}); res.Done != 1 {
				t.Errorf("not replayed: %+v", res)
			}
		})
	}
}

// TestScheduledAgain: what is scheduled does not hold its event back; while a person
// holds it, it does.
func TestScheduledAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	retrying(w, 1)
	pgtest.Exec(t, w.db, `update outbox.deliveries set state = 'scheduled'`)
	f := operate.Filter{IDs: pgtest.QueryVals[uuid.UUID](t, w.db, `select id from outbox.deliveries`)}
	for _, step := range []struct {
		action    operate.Action
		processed bool
	}{{operate.Hold, false}, {operate.Release, true}} {
		if res := w.do(operate.Request{Action: step.action, Filter: f}); res.Done != 1 {
			t.Fatalf("%s: %+v", step.action, res)
		}
		if got := pgtest.QueryVal[bool](t, w.db, `select processed_at is not null from outbox_events`); got != step.processed {
			t.Errorf("%s: processed %t, want %t", step.action, got, step.processed)
		}
	}
	if w.count(`state = 'scheduled' and due_at > now()`) != 1 {
		t.Error("not at its time")
	}
}
