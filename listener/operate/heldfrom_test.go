package operate_test

import (
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// TestReleasedInSQL: what a person held and then released as docs/ledger.md has it for
// where there is only SQL, and a listener holds afterwards since it may have arrived, is
// a listener's: it is not sent again by a simple release.
func TestReleasedInSQL(t *testing.T) {
	t.Parallel()
	var lost atomic.Bool
	w := newWorld(t, func(d *dispatch.Delivery) error {
		if lost.Load() {
			return unknown(d)
		}
		return down(d)
	})
	policy := dispatch.Policy{OnUnknown: dispatch.Hold}
	w.insert(1, "quote.sent")
	if _, err := w.listener(policy).Once(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	f := operate.Filter{IDs: pgtest.QueryVals[uuid.UUID](t, w.db, `select id from outbox.deliveries`)}
	if res := w.do(operate.Request{Action: operate.Hold, Filter: f}); res.Done != 1 {
		t.Fatalf("not held: %+v", res)
	}
	lost.Store(true)
	pgtest.Exec(t, w.db, `update outbox.deliveries set state = 'ready', due_at = now() where state = 'held'`)
	if _, err := w.listener(policy).Once(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if w.count(`state = 'held' and attempts = 2`) != 1 {
		t.Fatal("not held by the listener")
	}
	if res := w.do(operate.Request{Action: operate.Release, Filter: f}); res.Done != 0 {
		t.Errorf("released, though it may have arrived: %+v", res)
	}
	if res := w.do(operate.Request{Action: operate.Release, Filter: f, EvenUncertain: true}); res.Done != 1 {
		t.Errorf("not released: %+v", res)
	}
}
