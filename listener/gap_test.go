package listener_test

import (
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

var gaps = flag.Int("gaps", 160, "how many inserts TestInsertedWhileNobodyListens makes beside lost LISTEN connections, four to each")

// TestInsertedWhileNobodyListens: what is committed between the loss of the LISTEN connection and
// the moment at which notifications come again, or beside either, does not wait for the sweep,
// which is ten minutes away. The session is terminated; transactions insert at random moments of the
// time that the listener takes to be back, and some commit later than that.
func TestInsertedWhileNobodyListens(t *testing.T) {
	t.Parallel()
	const each = 4
	rounds := max(*gaps/each, 1)
	if testing.Short() {
		rounds = 10
	}
	db, d := pgtest.New(t), dispatch.New()
	a := &arrivals{at: map[uuid.UUID]time.Time{}, c: make(chan struct{}, 1)}
	channel(d, "greeting", "carrier", a, plain)
	l := newListener(t, db, d, func(c *listener.Config) { c.PollInterval, c.Lease = time.Hour, time.Hour })
	start(t, l)
	listening(t, l)
	span := 50 * time.Millisecond // from the loss until it listens again, as it was last
	var worst, longest time.Duration
	ended := 0
	for round := range rounds {
		var pid int
		pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
			pid = pgtest.QueryVal[int](t, db, `select coalesce(max(pid), 0) from pg_stat_activity
				where application_name = 'outbox-listener listen' and datname = current_database() and pid <> $1`, ended)
			return pid != 0 && l.Health().Listening, "no LISTEN session"
		})
		var wg sync.WaitGroup
		committed, ids := make([]time.Time, each), make([]uuid.UUID, each)
		lost, within := time.Now(), span
		for i := range each {
			wg.Go(func() {
				pause(rand.N(within))
				tx, err := db.Pool.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				err = tx.QueryRow(t.Context(), `insert into outbox_events (type, payload) values ('greeting', '{}') returning id`).Scan(&ids[i])
				if err == nil {
					pause(rand.N(10 * time.Millisecond))
					err = tx.Commit(t.Context())
				}
				committed[i] = time.Now()
				if err != nil {
					t.Error(err)
				}
			})
		}
		if !pgtest.QueryVal[bool](t, db, `select pg_terminate_backend($1)`, pid) {
			t.Fatal("LISTEN session not terminated")
		}
		ended = pid
		pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
			n := pgtest.QueryVal[int](t, db, `select count(*) from pg_locks as k join pg_stat_activity as s using (pid)
				where k.locktype = 'advisory' and k.granted and k.mode = 'ExclusiveLock' and s.pid <> $1
				  and s.application_name = 'outbox-listener listen' and s.datname = current_database()`, ended)
			return n > 0, "it does not listen again"
		})
		span = time.Since(lost) + 10*time.Millisecond
		longest = max(longest, span)
		wg.Wait()
		for i := range each {
			late := a.wait(t, ids[i], 10*time.Second).Sub(committed[i])
			worst = max(worst, late)
			if late > 5*time.Second {
				t.Fatalf("round %d: an event came %s after its commit", round, late)
			}
		}
	}
	t.Logf("%d inserts beside %d lost connections, each of which was back within %s; the latest arrived %s after its commit", rounds*each, rounds, longest, worst)
}
