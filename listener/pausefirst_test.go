package listener_test

import (
	"errors"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestPauseBeforeItsOutcome: what a provider asks for is on record before the outcome that says so: whoever
// dies in between leaves no outcome behind that others do not heed. Where it cannot be put on record
// the outcome is, a second later.
func TestPauseBeforeItsOutcome(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		begins string // what becomes of the first pause that is to be on record
		heeded bool
	}{
		{"the pause takes long", `perform pg_sleep(0.3)`, true},
		{"there is none", `raise exception 'not now'`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			pgtest.Exec(t, db, `create table seen (pauses bigint)`)
			pgtest.Exec(t, db, `create function pausing() returns trigger language plpgsql as $$ begin `+tt.begins+`; return new; end $$`)
			pgtest.Exec(t, db, `create trigger pausing before insert on outbox.brakes for each row execute function pausing()`)
			pgtest.Exec(t, db, `create function recording() returns trigger language plpgsql as $$ begin insert into public.seen select count(*) from outbox.brakes; return new; end $$`)
			pgtest.Exec(t, db, `create trigger recording before insert on outbox.attempts for each row execute function recording()`)
			d := dispatch.New()
			channel(d, "a", "braked", newProvider(func(*dispatch.Delivery) error {
				return &dispatch.Error{Kind: dispatch.Throttled, Status: 429, RetryAfter: time.Hour, Err: errors.New("too many")}
			}), provided)
			l := newListener(t, db, d, nil)
			start(t, l)
			listening(t, l)
			begun := time.Now()
			insert(t, db, "a", `{}`)
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
				return pgtest.QueryVal[int](t, db, `select count(*) from seen`) == 1, "no outcome"
			})
			if got := pgtest.QueryVal[int](t, db, `select pauses from seen`) == 1; got != tt.heeded {
				t.Errorf("the pause is on record before the outcome: %t, want %t", got, tt.heeded)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}
