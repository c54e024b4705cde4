package listener_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// killedBy in the environment makes the test binary run as a listener that an event
// brings down: one of type poison, at the place that it names.
const killedBy = "LISTENER_TEST_POISON"

// downAt brings the process down as the system does that has no memory left for it,
// once the table tries has it that it came here.
func downAt(pool *pgxpool.Pool, ev string) {
	if _, err := pool.Exec(context.Background(), `insert into tries (event) values ($1)`, ev); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	fmt.Fprintln(os.Stderr, err)
	select {}
}

// runPoison is the program of TestPoison. Events are sent by the channel sink.
func runPoison(url, where string) (code int) {
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	policy := dispatch.Policy{Announce: where == "announced"}
	if policy.Announce {
		policy.OnUnknown = dispatch.Resend
	}
	d := dispatch.New()
	d.Register("sink", newProvider(func(sent *dispatch.Delivery) error {
		if sent.Type == "poison" {
			downAt(pool, sent.EventID.String())
		}
		time.Sleep(20 * time.Millisecond) // so that some are under way when it goes down
		return nil
	}), policy)
	d.Use(router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
		if ev.Type == "poison" && where == "plan" {
			downAt(pool, ev.ID.String())
		}
		return []dispatch.Message{{Route: "r", Step: "s", Channel: "sink", Content: json.RawMessage(`{}`), Terms: &dispatch.Terms{Freeze: where == "frozen"}}}, nil
	}})
	return runToBeKilled(url, d, func(c *listener.Config) {
		c.MaxCrashes = 0
		c.Lease = time.Minute // one that runs out while its listener lives takes back what was counted
	})
}

// TestPoison: an event that brings three listeners down is dead without another try,
// wherever that is, and what they had beside it is delivered; also where there are two at once.
func TestPoison(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		where  string
		reason string // of what is dead
	}{
		{"plan", "poison: 3 listeners ended while they had it"},
		{"sent", "poison: 3 listeners ended while they had it"},
		{"announced", "poison: 3 listeners ended while they had it; it may have arrived"},
		{"frozen", "poison: 3 listeners ended while they had it"},
	} {
		for _, together := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/together=%t", tt.where, together), func(t *testing.T) {
				t.Parallel()
				poison(t, tt.where, tt.reason, together)
			})
		}
	}
}

// poison runs listeners until nothing is open of two times 15 events of which one brings them
// down, there where says.
func poison(t *testing.T, where, reason string, together bool) {
	db := pgtest.New(t)
	pgtest.Exec(t, db, `create table tries (event text)`)
	const poisons = 2
	inserts := poisons // at once
	if !together {
		inserts = 1
	}
	deaths, inserted := 0, 0
	for open := 0; open != 0 || inserted < poisons; {
		if open == 0 {
			pgtest.Exec(t, db, `insert into outbox_events (type, payload) select case when n = 10 then 'poison' else 'fine' end, '{}' from generate_series(1, 15) as n, generate_series(1, $1)`, inserts)
			inserted, open = inserted+inserts, -1
		}
		v := startVictim(t, db, killedBy+"="+where)
		pgtest.Eventually(t, 30*time.Second, func() (bool, string) {
			select {
			case <-v.ended:
				deaths++
				return true, ""
			default:
			}
			open = pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where processed_at is null`)
			return open == 0, fmt.Sprintf("%d open after %d deaths; the listener says %s", open, deaths, v.stderr.String())
		})
		if deaths > 12 {
			t.Fatalf("%d deaths; the listener says %s", deaths, v.stderr.String())
		}
		v.kill()
		// The leases of the dead, which the next one need not wait for; once nothing of theirs is under way any more.
		pgtest.Drains(t, 30*time.Second, "statements of a listener that ended are under way", func() int { return underWay(t, db) })
		pgtest.Exec(t, db, `update outbox_events set lease_until = clock_timestamp() - interval '1 second' where lease_until between clock_timestamp() and clock_timestamp() + interval '1 day'`)
		pgtest.Exec(t, db, `update outbox.deliveries set due_at = clock_timestamp() - interval '1 second' where due_at > clock_timestamp()`)
	}
	if tries := pgtest.QueryVals[int](t, db, `select count(*) from tries group by event`); len(tries) != 2 || tries[0] > 3 || tries[1] > 3 || tries[0]+tries[1] < deaths {
		t.Errorf("tried %v times in %d deaths", tries, deaths)
	}
	// Where its event is ended, and not the delivery alone since that took so long, another
	// row says what else the event was to become.
	got := pgtest.QueryVals[string](t, db, `select event_type || ' ' || state || ' ' || coalesce(last_error, '') || ' ' || count(*) from outbox.deliveries
		where last_error is null or last_error not like '%; what is not on record of it was not sent' or event_type <> 'poison' or state <> 'dead'
		group by event_type, state, last_error order by 1`)
	want := "fine delivered  28, poison dead " + reason + " 2"
	if strings.Join(got, ", ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// TestLostLeaseIsNoCrash: a listener that lives and lost its lease, since the database
// was away, say, says so.
func TestLostLeaseIsNoCrash(t *testing.T) {
	t.Parallel()
	db, d, stuck := pgtest.New(t), dispatch.New(), newBlocker()
	channel(d, "greeting", "carrier", stuck, plain)
	l := newListener(t, db, d, func(c *listener.Config) { c.Lease = time.Second; c.PollInterval = 200 * time.Millisecond })
	start(t, l)
	insert(t, db, "greeting", `{}`)
	<-stuck.entered
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		return pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() - interval '1 second' where due_at is not null`) == 1, "not parked"
	})
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		if pgtest.QueryVal[int](t, db, `select count(*) from outbox.crashes`) == 1 {
			return true, ""
		}
		// Its renewal may have come before its sweep.
		pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() - interval '1 second' where due_at is not null`)
		return false, "nothing was noted when the lease ran out"
	})
	close(stuck.gate)
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		return pgtest.QueryVal[int](t, db, `select count(*) from outbox.crashes`) == 0, "that it lives is not noted"
	})
}
