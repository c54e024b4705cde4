package listener_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestRefusedRowCostsOnlyItself: an event whose ledger row the database does
// not take keeps neither its batch, nor later events, nor the stop waiting.
func TestRefusedRowCostsOnlyItself(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		sql  string
		msgs []dispatch.Message
	}{
		{"two messages with one identity", "", []dispatch.Message{
			{Route: "r", Step: "s", Channel: "bad", Recipient: "x", Content: json.RawMessage(`{}`)},
			{Route: "r", Step: "s", Channel: "bad", Recipient: "x", Content: json.RawMessage(`{}`)},
		}},
		{"content that is not JSON", "", []dispatch.Message{{Route: "r", Step: "s", Channel: "bad", Content: json.RawMessage("hello")}}},
		{"NUL in the reason", "", []dispatch.Message{{Route: "r", Step: "s", Channel: "bad", Refused: "bad \x00 byte"}}},
		{"a row that a constraint forbids", `alter table outbox.deliveries add check (event_type <> 'poison')`,
			[]dispatch.Message{{Route: "r", Step: "s", Channel: "bad", Content: json.RawMessage(`{}`)}}},
		{"a text that a constraint forbids", `alter table outbox.deliveries add check (last_error not like '%too fast%')`,
			[]dispatch.Message{{Route: "r", Step: "s", Channel: "bad", Content: json.RawMessage(`{}`)}}},
	} {
		for _, policy := range []dispatch.Policy{plain, careful} {
			t.Run(fmt.Sprintf("%s/announce=%t", tt.name, policy.Announce), func(t *testing.T) {
				t.Parallel()
				db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
				channel(d, "greeting", "carrier", p, policy)
				d.Register("bad", newProvider(inAnHour), policy)
				d.Route("poison", func(context.Context, dispatch.Event) []dispatch.Message { return tt.msgs })
				if tt.sql != "" {
					pgtest.Exec(t, db, tt.sql)
				}
				pgtest.Exec(t, db, `insert into outbox_events (type, payload)
					select case when g = 2 then 'poison' else 'greeting' end, '{}' from generate_series(1, 4) as g`)
				l := newListener(t, db, d, func(c *listener.Config) { c.ShutdownGrace = time.Second; c.Lease = 2 * time.Second })
				stop := start(t, l)
				passed := func(want int) {
					t.Helper()
					pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
						n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where type = 'greeting' and processed_at is not null`)
						return n == want, fmt.Sprintf("%d of %d neighbours processed", n, want)
					})
				}
				passed(3)
				insert(t, db, "greeting", `{}`)
				passed(4)
				begun := time.Now()
				stop()
				if took := time.Since(begun); took > 5*time.Second {
					t.Errorf("stopped after %s, grace 1 s", took)
				}
				if p.count() != 4 {
					t.Errorf("%d sent, want 4", p.count())
				}
			})
		}
	}
}

// TestTypedNilIsUnknown: a sender that returns a nil *dispatch.Error as its
// error has said nothing; that is held like any unclear answer, and does not
// take the process down.
func TestTypedNilIsUnknown(t *testing.T) {
	t.Parallel()
	db, d := pgtest.New(t), dispatch.New()
	p := newProvider(func(*dispatch.Delivery) error { var e *dispatch.Error; return e })
	channel(d, "greeting", "carrier", p, careful)
	id := insert(t, db, "greeting", `{}`)
	if _, err := newListener(t, db, d, nil).Once(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if got := ledgerOf(t, db, id); got.State != "held" || got.Attempts != 1 || got.Error == "" {
		t.Errorf("ledger = %+v", got)
	}
}
