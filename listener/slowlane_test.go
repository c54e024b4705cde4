package listener_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// gates is a Sender that keeps each delivery until its gate is open.
type gates struct {
	entered chan uuid.UUID
	of      map[uuid.UUID]chan struct{}
}

func (g gates) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	g.entered <- d.ID
	select {
	case <-g.of[d.ID]:
		return dispatch.Receipt{}, nil
	case <-ctx.Done():
		return dispatch.Receipt{}, &dispatch.Error{Kind: dispatch.Down, Err: ctx.Err()}
	}
}

// TestSlowInTheLane: what brings its listener down only after the time of a lease is
// found out, and nobody is blamed for it who is tried beside it.
func TestSlowInTheLane(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	g := gates{make(chan uuid.UUID, 10), map[uuid.UUID]chan struct{}{}}
	d := dispatch.New()
	for _, ch := range []string{"one", "two"} { // two destinations, since one that hangs gets no second attempt
		d.Register(dispatch.Channel(ch), g, dispatch.Policy{Timeout: time.Minute})
		id := deliveryRow(t, db, `channel = '`+ch+`', state = 'ready', attempts = 0, finished_at = null, provider_id = null,
			claim = gen_random_uuid(), due_at = now() - interval '1 second'`)
		g.of[id] = make(chan struct{})
		pgtest.Exec(t, db, `insert into outbox.crashes (id, count) values ($1, 1)`, id)
	}
	start(t, newListener(t, db, d, func(c *listener.Config) { c.Lease = time.Second; c.PollInterval = 200 * time.Millisecond }))
	alone := func(id uuid.UUID, want bool, when string) {
		t.Helper()
		pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
			return pgtest.QueryVal[bool](t, db, `select count = 2 and alone = $2 from outbox.crashes where id = $1`, id, want), when
		})
	}
	first := <-g.entered
	alone(first, true, "the first, by itself")
	second := <-g.entered // a lease later
	alone(first, false, "the first, beside the second")
	if pgtest.QueryVal[bool](t, db, `select alone from outbox.crashes where id = $1`, second) {
		t.Error("the second is on record as tried alone, and the first is under way still")
	}
	close(g.of[second])
	alone(first, true, "the first, by itself again")
	close(g.of[first])
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		return pgtest.QueryVal[bool](t, db, `select not exists (select from outbox.crashes) and count(*) filter (where state = 'delivered') = 2 from outbox.deliveries`),
			"not delivered, or counted still"
	})
}

// TestSuspectsAreApart: of two that a listener ended with, one of them for the second time, none
// begins while the other is under way, whichever is claimed first.
func TestSuspectsAreApart(t *testing.T) {
	t.Parallel()
	for _, again := range []int{0, 1} {
		t.Run(fmt.Sprintf("again=%d", again), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			g := gates{make(chan uuid.UUID, 10), map[uuid.UUID]chan struct{}{}}
			d := dispatch.New()
			for i, ch := range []string{"one", "two"} {
				d.Register(dispatch.Channel(ch), g, dispatch.Policy{Timeout: time.Minute})
				id := deliveryRow(t, db, fmt.Sprintf(`channel = '%s', state = 'ready', attempts = 0, finished_at = null, provider_id = null,
					claim = gen_random_uuid(), due_at = now() - interval '%d seconds'`, ch, 10-i))
				g.of[id] = make(chan struct{})
				if i == again {
					pgtest.Exec(t, db, `insert into outbox.crashes (id, count) values ($1, 1)`, id)
				}
			}
			start(t, newListener(t, db, d, func(c *listener.Config) { c.Lease = time.Minute; c.PollInterval = 200 * time.Millisecond }))
			first := <-g.entered
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
				n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.crashes`)
				return n == 2, fmt.Sprintf("%d suspected of 2", n)
			})
			select {
			case <-g.entered:
				t.Error("both are under way")
			case <-time.After(300 * time.Millisecond):
				close(g.of[first])
				close(g.of[<-g.entered])
			}
		})
	}
}
