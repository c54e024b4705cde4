package listener_test

import (
	"context"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestRecalled: a report that comes while the delivery that is sent instead is being
// judged, by a listener which has read what was before, is not overlooked. It would be
// asked for again when the time for reports is over.
func TestRecalled(t *testing.T) {
	t.Parallel()
	db, p := pgtest.New(t), newProvider(nil)
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		return []dispatch.Message{fallback(dispatch.Terms{}), step("text", dispatch.Terms{})}, nil
	}}
	l := newListener(t, db, routed(p, plain, r), func(c *listener.Config) { c.AwaitReport, c.PollInterval = time.Hour, 100*time.Millisecond })
	start(t, l)
	event := insert(t, db, "x", `{}`)
	text, mail := idOf(t, db, event, "text", "delivered"), idOf(t, db, event, "mail", "scheduled")

	// Whoever judges reads first, and cannot record what came of it before the report is
	// noted, since that has the event locked.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tx, err := db.Pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(ctx, `select from outbox_events where id = $1 for no key update`, event); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() where id = $1`, mail)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		return pgtest.QueryVal[bool](t, db, `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')`), "nothing waits to be recorded"
	})
	if _, err := tx.Exec(ctx, `update outbox.deliveries set receipt = 'undelivered', receipt_at = now() where id = $1`, text); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	idOf(t, db, event, "mail", "delivered")
}
