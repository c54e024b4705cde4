package operate_test

import (
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

func TestBrakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	if list, err := w.o.Brakes(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	pgtest.Exec(t, w.db, `insert into outbox.brakes (destination, reason, failures, since, until, probe_at) values
		('webhook b', 'later', 1, '2026-12-01 10:00Z', now(), now()), ('webhook a', 'down', 7, '2026-12-01 09:00Z', '2026-12-01 09:05Z', now())`)
	list, err := w.o.Brakes(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	list[0].Since, list[0].Until = list[0].Since.UTC(), list[0].Until.UTC()
	at := time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
	if want := (operate.Brake{Destination: "webhook a", Since: at, Until: at.Add(5 * time.Minute), Failures: 7, Reason: "down"}); list[0] != want {
		t.Errorf("%+v, want %+v", list[0], want)
	}
}
