package listener_test

import (
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestTimesThatNoCalendarHas: a time that Postgres or JSON cannot write stops
// neither its event nor the listener. "Never" is often written as the end of the
// year 9999, and "not yet" as the year 1.
func TestTimesThatNoCalendarHas(t *testing.T) {
	t.Parallel()
	db, p := pgtest.New(t), newProvider(nil)
	never := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	zero := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		return []dispatch.Message{
			step("never", dispatch.Terms{At: never.Add(time.Hour), Deadline: never.Add(2 * time.Hour)}),
			step("long ago", dispatch.Terms{Deadline: zero.AddDate(-3, 0, 0), Late: "too late"}),
			step("before the calendar", dispatch.Terms{Deadline: zero.Add(-time.Hour), Late: "too late"}),
			step("now", dispatch.Terms{}),
		}, nil
	}}
	start(t, newListener(t, db, routed(p, plain, r), nil))
	ev := insert(t, db, "e", `{}`)
	wantStates(t, db, ev, map[string]string{"never": "scheduled", "long ago": "expired", "before the calendar": "expired", "now": "delivered"})
	processed(t, db, 5*time.Second)
}
