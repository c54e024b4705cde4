package listener_test

import (
	"context"
	"encoding/json"
	"errors"
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

// suspects returns a listener and two kinds of deliveries of a listener that ended: one with which
// another ended before, and n others, each on a channel of its own.
func suspects(t *testing.T, n int, changes ...func(*listener.Config)) (*pgtest.DB, *listener.Listener, gates, uuid.UUID) {
	t.Helper()
	db := pgtest.New(t)
	g := gates{make(chan uuid.UUID, 10), map[uuid.UUID]chan struct{}{}}
	d := dispatch.New()
	var again uuid.UUID
	for i := range n + 1 {
		d.Register(dispatch.Channel(fmt.Sprint("c", i)), g, dispatch.Policy{Timeout: time.Minute})
		id := deliveryRow(t, db, fmt.Sprintf(`channel = 'c%d', state = 'ready', attempts = 0, finished_at = null, provider_id = null,
			claim = gen_random_uuid(), due_at = now() - interval '%d seconds'`, i, 20-i))
		g.of[id] = make(chan struct{})
		if i == 0 {
			again = id
			pgtest.Exec(t, db, `insert into outbox.crashes (id, count) values ($1, 1)`, id)
		}
	}
	return db, newListener(t, db, d, func(c *listener.Config) {
		c.Lease, c.PollInterval, c.ShutdownGrace = time.Minute, 200*time.Millisecond, 100*time.Millisecond
		for _, change := range changes {
			change(c)
		}
	}), g, again
}

// TestSuspectsBeginTogether: what waited while another was tried alone is not tried one by one.
func TestSuspectsBeginTogether(t *testing.T) {
	t.Parallel()
	_, l, g, again := suspects(t, 3)
	start(t, l)
	if first := <-g.entered; first != again {
		t.Errorf("%s began first, not the one to be tried alone", first)
	}
	close(g.of[again])
	for range 3 {
		select {
		case <-g.entered: // and its gate stays shut
		case <-time.After(10 * time.Second):
			t.Fatal("they wait for one another")
		}
	}
	for id, gate := range g.of {
		if id != again {
			close(gate)
		}
	}
}

// TestSlowBesideThoseThatWaited: what takes longer than a lease is on record as tried alone again once
// those are over that did not wait for it any more, so that it is found out, too.
func TestSlowBesideThoseThatWaited(t *testing.T) {
	t.Parallel()
	db, l, g, again := suspects(t, 1, func(c *listener.Config) { c.Lease = time.Second })
	start(t, l)
	alone := func(want bool, when string) {
		t.Helper()
		pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
			return pgtest.QueryVal[bool](t, db, `select alone = $2 from outbox.crashes where id = $1`, again, want), when
		})
	}
	<-g.entered
	alone(true, "by itself")
	other := <-g.entered // a lease later
	alone(false, "beside the other")
	close(g.of[other])
	alone(true, "by itself again")
	close(g.of[again])
}

// TestStopWithALane: what waits in the lane is given back at a stop, and nothing is on record as
// tried alone any more.
func TestStopWithALane(t *testing.T) {
	t.Parallel()
	db, l, g, again := suspects(t, 2)
	stop := start(t, l)
	<-g.entered
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.crashes where count = 1 or alone`)
		return n == 3, fmt.Sprintf("%d on record of 3", n)
	})
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("stopped after %s", took)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.crashes where alone`); n != 0 {
		t.Errorf("%d are on record as tried alone", n)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where claim is null and due_at <= now() and id <> $1`, again); n != 2 {
		t.Errorf("%d were given back, want 2", n)
	}
}

// TestUnplannableInTheLane: an event whose plan fails does not keep those behind it from being
// tried alone.
func TestUnplannableInTheLane(t *testing.T) {
	t.Parallel()
	db, g := pgtest.New(t), gates{make(chan uuid.UUID, 10), map[uuid.UUID]chan struct{}{}}
	d := dispatch.New()
	d.Register("sink", g, dispatch.Policy{Timeout: time.Minute})
	d.Use(router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
		if ev.Type == "unplannable" {
			return nil, errors.New("the table is not there")
		}
		return []dispatch.Message{{Route: "r", Step: "s", Channel: "sink", Content: json.RawMessage(`{}`)}}, nil
	}})
	for _, typ := range []string{"unplannable", "suspect"} {
		pgtest.Exec(t, db, `insert into outbox.crashes (id, count) values ($1, 1)`, insert(t, db, typ, `{}`))
	}
	pgtest.Exec(t, db, `update outbox_events set claim = gen_random_uuid(), lease_until = now() - interval '1 second'`)
	start(t, newListener(t, db, d, func(c *listener.Config) { c.Lease, c.PollInterval = time.Minute, 200*time.Millisecond }))
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		return pgtest.QueryVal[bool](t, db, `select coalesce(bool_or(c.alone), false) from outbox.crashes as c join outbox_events as e on e.id = c.id and e.type = 'suspect'`),
			"the suspect is not tried alone"
	})
}
