package listener_test

import (
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestUnclearAttemptDoesNotQueue: a delivery that a crashed listener was
// sending, on a channel that must not send twice, is held at once. It does not
// wait behind others for a turn that it will not use.
func TestUnclearAttemptDoesNotQueue(t *testing.T) {
	t.Parallel()
	db, d, stuck := pgtest.New(t), dispatch.New(), newBlocker()
	channel(d, "greeting", "carrier", stuck, dispatch.Policy{OnUnknown: dispatch.Hold, Concurrency: 1})
	l := newListener(t, db, d, func(c *listener.Config) { c.PollInterval = 200 * time.Millisecond })
	start(t, l)
	defer close(stuck.gate)
	listening(t, l)
	insert(t, db, "greeting", `{}`)
	<-stuck.entered

	id := pgtest.QueryVal[string](t, db, `insert into outbox_events (type, payload, lease_until, claim)
		values ('greeting', '{}', 'infinity', gen_random_uuid()) returning id`)
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel,
			recipient, state, attempts, due_at, claim, content)
		select gen_random_uuid(), id, seq, type, created_at, 'test', 'carrier', 'carrier', '', 'sending', 1, now(), gen_random_uuid(), '{}'
		from outbox_events where id = $1`, id)
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		state := pgtest.QueryVal[string](t, db, `select state from outbox.deliveries where event_id = $1`, id)
		return state == "held", "it is " + state
	})
	if n := len(stuck.entered); n != 0 {
		t.Errorf("%d more attempts", n)
	}
}
