package listener_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// arrivals says when each event arrived.
type arrivals struct {
	mu sync.Mutex
	at map[uuid.UUID]time.Time
	c  chan struct{}
}

func (a *arrivals) Send(_ context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	a.mu.Lock()
	a.at[d.EventID] = time.Now()
	a.mu.Unlock()
	select {
	case a.c <- struct{}{}:
	default:
	}
	return dispatch.Receipt{}, nil
}

// wait returns when event id arrived.
func (a *arrivals) wait(t testing.TB, id uuid.UUID, within time.Duration) time.Time {
	t.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		a.mu.Lock()
		at, ok := a.at[id]
		a.mu.Unlock()
		if ok {
			return at
		}
		select {
		case <-a.c:
		case <-timer.C:
			t.Fatalf("event %s did not arrive within %s", id, within)
		}
	}
}

// TestNoWakeIsLost drives the gate through its transitions in lock step: one
// event wakes the listener, then two transactions insert and commit at random
// moments while it falls asleep, and nothing else happens until both arrived.
// A wake-up that is lost would show as a delay of a sweep, which is far away.
func TestNoWakeIsLost(t *testing.T) {
	t.Parallel()
	rounds := 150
	if testing.Short() {
		rounds = 30
	}
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			db, d := pgtest.New(t), dispatch.New()
			a := &arrivals{at: map[uuid.UUID]time.Time{}, c: make(chan struct{}, 1)}
			channel(d, "greeting", "carrier", a, plain)
			// No sweep comes to the rescue within a round.
			l := newListener(t, db, d, func(c *listener.Config) { c.PollInterval, c.Lease = time.Hour, time.Hour })
			start(t, l)
			listening(t, l)
			var worst time.Duration
			for round := range rounds {
				a.wait(t, insert(t, db, "greeting", `{}`), 10*time.Second)
				var wg sync.WaitGroup
				committed := make([]time.Time, 2)
				ids := make([]uuid.UUID, 2)
				for i := range 2 {
					wg.Go(func() {
						tx, err := db.Pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
						if err != nil {
							t.Error(err)
							return
						}
						pause(rand.N(40 * time.Millisecond))
						err = tx.QueryRow(t.Context(), `insert into outbox_events (type, payload) values ('greeting', '{}') returning id`).Scan(&ids[i])
						if err == nil {
							pause(rand.N(40 * time.Millisecond))
							err = tx.Commit(t.Context())
						}
						committed[i] = time.Now()
						if err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				for i := range 2 {
					late := a.wait(t, ids[i], 10*time.Second).Sub(committed[i])
					worst = max(worst, late)
					if late > 5*time.Second { // the sweep is ten minutes away
						t.Fatalf("round %d: an event came %s after its commit", round, late)
					}
				}
			}
			t.Logf("%d rounds, latest %s after its commit", rounds, worst)
		})
	}
}

// pause spreads what the test does over time; no result waits for it.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// TestNobodyIsNotifiedInVain: without a listener, and while one is busy, an
// insert sends no notification.
func TestNobodyIsNotifiedInVain(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `listen outbox_events`); err != nil {
		t.Fatal(err)
	}
	heard := func() int {
		// Whatever was sent before this one arrives before it.
		pgtest.Exec(t, db, `notify outbox_events, 'end'`)
		n := 0
		for {
			got, err := conn.WaitForNotification(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.Payload == "end" {
				return n
			}
			n++
		}
	}
	for range 10 {
		insert(t, db, "nobody.cares", `{}`)
	}
	if n := heard(); n != 0 {
		t.Errorf("%d notifications without a listener", n)
	}
	d := dispatch.New()
	channel(d, "greeting", "carrier", newProvider(nil), plain)
	l := newListener(t, db, d, nil)
	start(t, l)
	listening(t, l)
	asleep(t, db)
	insert(t, db, "greeting", `{}`)
	if n := heard(); n != 1 {
		t.Errorf("%d notifications to a sleeping listener, want 1", n)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if _, err := db.Pool.Exec(t.Context(), `insert into outbox_events (type, payload) values ('greeting', '{}')`); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := heard(); n > 400 {
		t.Errorf("%d notifications for 800 inserts by busy writers", n)
	}
	processed(t, db, 10*time.Second)
}
