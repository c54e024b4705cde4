package listener_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// dialer is a Sender that takes as long to get through to its provider as the test likes.
type dialer struct {
	dialing chan struct{} // closed by the test
	begun   chan struct{} // has room for each
	*provider
}

func (d dialer) Send(ctx context.Context, j *dispatch.Delivery) (dispatch.Receipt, error) {
	if j.Type == "first" {
		d.begun <- struct{}{}
		<-d.dialing
	}
	if !dispatch.Ours(ctx) {
		return dispatch.Receipt{}, &dispatch.Error{Kind: dispatch.Down, Err: dispatch.ErrLate}
	}
	return d.provider.Send(ctx, j)
}

// TestBrakedMeanwhile: what was on its way to a destination when another was asked for time there
// does not leave, however long it waited; it is not counted as attempted, and waits
// as the others do.
func TestBrakedMeanwhile(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		announced dispatch.OnUnknown // what has it announced; "" where it is not
		record    bool               // it waits for its announcement, and else for its connection
	}{
		{"while it was connecting", "", false},
		{"while it was connecting, and announced", dispatch.Hold, false},
		{"while it was announced", dispatch.Hold, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, d := pgtest.New(t), dispatch.New()
			sender := dialer{make(chan struct{}), make(chan struct{}, 10), newProvider(func(j *dispatch.Delivery) error {
				if j.Type == "second" {
					return &dispatch.Error{Kind: dispatch.Throttled, Status: 429, RetryAfter: time.Hour, Err: errors.New("too many")}
				}
				return nil
			})}
			d.Register("braked", sender, provided)
			for typ, unknown := range map[string]dispatch.OnUnknown{"earlier": "", "first": tt.announced, "second": ""} {
				d.Route(typ, func(_ context.Context, ev dispatch.Event) []dispatch.Message {
					return []dispatch.Message{{Route: "test", Step: "s", Channel: "braked", Content: ev.Payload,
						Terms: &dispatch.Terms{Retry: dispatch.Retries{OnUnknown: unknown}}}}
				})
			}
			pgtest.Exec(t, db, `create function halt() returns trigger language plpgsql as $$ begin perform set_config('lock_timeout', '0', true); perform pg_advisory_xact_lock(42); return new; end $$`)
			if tt.record {
				pgtest.Exec(t, db, `create trigger halt before insert or update on outbox.deliveries for each row
					when (new.event_type = 'first' and new.state = 'sending') execute function halt()`)
				close(sender.dialing)
			}
			gate, err := db.Pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer gate.Release()
			if _, err := gate.Exec(t.Context(), `select pg_advisory_lock(42)`); err != nil {
				t.Fatal(err)
			}
			l := newListener(t, db, d, func(c *listener.Config) { c.PollInterval = 100 * time.Millisecond })
			start(t, l)
			listening(t, l)

			// At once, so that some wait: with each answer beside them one more may be under way there.
			pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'earlier', '{}' from generate_series(1, 10)`)
			processed(t, db, 5*time.Second)
			first := insert(t, db, "first", `{}`)
			if tt.record {
				pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
					return pgtest.QueryVal[int](t, db, `select count(*) from pg_locks join pg_database as d on d.oid = database
						where datname = current_database() and locktype = 'advisory' and not granted`) == 1, "nobody waits"
				})
			} else {
				<-sender.begun
			}
			second := insert(t, db, "second", `{}`)
			stands(t, db, second, ledger{"retry", 1, "braked: throttled (status 429): too many", true})
			if !tt.record {
				close(sender.dialing)
			} else if _, err := gate.Exec(t.Context(), `select pg_advisory_unlock(42)`); err != nil {
				t.Fatal(err)
			}
			stands(t, db, first, ledger{"ready", 0, listener.HeldBy("braked"), true})
			if n := sender.count(); n != 11 {
				t.Errorf("%d were sent, want the 10 before and the second", n)
			}
		})
	}
}

// stands waits until the delivery of an event stands in the ledger as it should.
func stands(t *testing.T, db *pgtest.DB, event uuid.UUID, want ledger) {
	t.Helper()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where event_id = $1`, event); n != 1 {
			return false, fmt.Sprintf("%d deliveries", n)
		}
		got := ledgerOf(t, db, event)
		return got == want, fmt.Sprintf("%+v", got)
	})
}
