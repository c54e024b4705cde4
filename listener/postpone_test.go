package listener_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/sql"
)

var errAway = errors.New("the database is away")

// mendable is an error that knows what to do about it, as that of a lookup.
type mendable struct{ error }

func (mendable) Mend() string { return "see the routes" }

// TestPlanIsMadeAgain: an error of a plan costs its event seconds, long before
// its lease has run out, and the others nothing.
func TestPlanIsMadeAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, payload string }{
		{"small", `{"n": 1}`},
		{"a payload that stays behind in the claim", `{"n": "` + strings.Repeat("x", 100_000) + `"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, p := pgtest.New(t), newProvider(nil)
			var tries atomic.Int32
			failing := make(chan struct{}, 10)
			r := router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
				if ev.Type == "fails twice" && tries.Add(1) <= 2 {
					failing <- struct{}{}
					return nil, fmt.Errorf("lookup x: %w", mendable{errAway})
				}
				m := step(ev.Type, dispatch.Terms{})
				m.Content = ev.Payload
				return []dispatch.Message{m}, nil
			}}
			var logged words
			start(t, newListener(t, db, routed(p, plain, r), func(c *listener.Config) {
				c.Workers = 1
				c.Log = slog.New(slog.NewTextHandler(&logged, nil))
			}))
			insert(t, db, "fails twice", tt.payload)
			<-failing
			claim := pgtest.QueryVal[string](t, db, `select claim::text from outbox_events`)
			other := insert(t, db, "is fine", `{}`)
			wantStates(t, db, other, map[string]string{"is fine": "delivered"})
			if n := tries.Load(); n > 2 {
				t.Errorf("the other one waited for %d plans", n)
			}
			<-failing
			if now := pgtest.QueryVal[string](t, db, `select claim::text from outbox_events where type = 'fails twice'`); now != claim {
				t.Error("it was claimed again meanwhile")
			}
			processed(t, db, 8*time.Second) // 1 s and 3 s at most
			if n := tries.Load(); n != 3 || p.count() != 2 || string(p.sent[1].Content) != tt.payload {
				t.Errorf("%d plans and %d sent, want 3 and 2", n, p.count())
			}
			if n := strings.Count(logged.String(), "event not planned; trying again"); n < 1 || n > 2 {
				t.Errorf("%d lines in the log: %s", n, logged.String())
			}
			if said := logged.String(); !strings.Contains(said, `type="fails twice"`) || !strings.Contains(said, "event=") || !strings.Contains(said, "mend=\"see the routes\"") {
				t.Errorf("the log does not say which event, or what to do: %s", said)
			}
		})
	}
}

// TestPlansThatFailHoldNobodyUp: more events than may be held, none of which
// can be planned, leave room for those that can.
func TestPlansThatFailHoldNobodyUp(t *testing.T) {
	t.Parallel()
	db, p := pgtest.New(t), newProvider(nil)
	r := router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
		if ev.Type == "fails" {
			return nil, errAway
		}
		return []dispatch.Message{step("one", dispatch.Terms{})}, nil
	}}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'fails', '{}' from generate_series(1, 100)`)
	fine := insert(t, db, "is fine", `{}`)
	start(t, newListener(t, db, routed(p, plain, r), func(c *listener.Config) { c.Workers, c.BatchSize = 1, 2 }))
	wantStates(t, db, fine, map[string]string{"one": "delivered"})
}

// TestPlansThatFailSlowly: nor do more of them than there is room for, each of which comes back
// later: not what lies behind them at a start, and not what a dead listener had behind them.
func TestPlansThatFailSlowly(t *testing.T) {
	t.Parallel()
	const fails, fine = 80, 20
	begin := func(t *testing.T) (*pgtest.DB, *provider, *listener.Listener) {
		db, p := pgtest.New(t), newProvider(nil)
		r := router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
			if ev.Type == "fails" {
				time.Sleep(100 * time.Millisecond) // a lookup that ends at its limit
				return nil, errAway
			}
			return []dispatch.Message{step("one", dispatch.Terms{})}, nil
		}}
		return db, p, newListener(t, db, routed(p, plain, r), func(c *listener.Config) { c.Workers, c.BatchSize, c.Lease = 4, 2, time.Second })
	}
	failing := func(t *testing.T, db *pgtest.DB) {
		pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'fails', '{}' from generate_series(1, $1::int)`, fails)
	}
	arrive := func(t *testing.T, p *provider) {
		pgtest.Eventually(t, 2*time.Minute, func() (bool, string) { return p.count() == fine, fmt.Sprintf("%d sent", p.count()) })
	}
	t.Run("a backlog behind them", func(t *testing.T) {
		t.Parallel()
		db, p, l := begin(t)
		failing(t, db)
		pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'is fine', '{}' from generate_series(1, $1::int)`, fine)
		start(t, l)
		arrive(t, p)
	})
	t.Run("what a dead listener had behind them", func(t *testing.T) {
		t.Parallel()
		db, p, l := begin(t)
		start(t, l)
		listening(t, l)
		failing(t, db)
		pgtest.Eventually(t, time.Minute, func() (bool, string) {
			return pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where claim is null`) == 0, "not claimed"
		})
		pgtest.Exec(t, db, `insert into outbox_events (type, payload, claim, lease_until)
			select 'is fine', '{}', gen_random_uuid(), now() + interval '1 second' from generate_series(1, $1::int)`, fine)
		arrive(t, p)
	})
}

// TestCrowdIsPutOff: events that cannot be planned, more than may wait, are nobody's until their turn comes
// again, one after the other and not all of them with each lease; no end of a listener is held against them.
// Once those of their type can be planned they come at once, however far off their turns are, and others do not.
func TestCrowdIsPutOff(t *testing.T) {
	t.Parallel()
	const fails = 150
	db, p := pgtest.New(t), newProvider(nil)
	var plans atomic.Int32
	var mended atomic.Bool
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		if mended.Load() {
			return []dispatch.Message{step("one", dispatch.Terms{})}, nil
		}
		plans.Add(1)
		return nil, errAway
	}}
	pgtest.Exec(t, db, `create table ends (id uuid primary key);
		create function noted() returns trigger language plpgsql as $$ begin insert into public.ends values (new.id) on conflict do nothing; return null; end $$;
		create trigger noted after insert on outbox.crashes for each row execute function noted()`)
	l := newListener(t, db, routed(p, plain, r), func(c *listener.Config) { c.Workers, c.BatchSize, c.Lease = 1, 2, 5*time.Second })
	start(t, l)
	absent := func(more string) int {
		return pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where claim = $1 and lease_until > now()`+more, sql.PutOff)
	}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'fails', '{}' from generate_series(1, $1::int)`, fails)
	pgtest.Eventually(t, time.Minute, func() (bool, string) {
		n := absent("")
		return n > fails/2 && plans.Load() >= fails, fmt.Sprintf("%d are put off, after %d plans", n, plans.Load())
	})
	if n := l.Health().Held; n > fails/4 {
		t.Errorf("%d are held", n)
	}
	begun, before := time.Now(), plans.Load()
	pgtest.Eventually(t, time.Minute, func() (bool, string) {
		n := plans.Load() - before
		return n >= 2*fails, fmt.Sprintf("%d plans more", n)
	})
	if took := time.Since(begun); took < 8*time.Second { // 20 a second, and the few that wait
		t.Errorf("twice as many plans as there are events within %s", took)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from ends`); n > fails/10 { // a lease may run out on a machine that stood still
		t.Errorf("%d of them are said to have brought a listener down", n)
	}
	mended.Store(true)
	pgtest.Exec(t, db, `update outbox_events as e set lease_until = case when e.seq < h.seq then now() + interval '1 hour' end
		from (select max(seq) as seq from outbox_events where claim = $1) as h where e.claim = $1`, sql.PutOff)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, claim, lease_until) select 'another', '{}', $1, now() + interval '1 hour' from generate_series(1, 3)`, sql.PutOff)
	pgtest.Eventually(t, 30*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where event_type = 'fails' and state = 'delivered'`)
		return n == fails, fmt.Sprintf("%d delivered", n)
	})
	if n := absent(` and type = 'another'`); n != 3 {
		t.Errorf("of another type %d of 3 wait for their turn", n)
	}
	// A listener that knows nothing of it brings them forward, once it meets one of them.
	pgtest.Exec(t, db, `update outbox_events set lease_until = now() where seq = (select min(seq) from outbox_events where type = 'another')`)
	processed(t, db, 30*time.Second)
}

// TestSuspectIsPutOff: an event that a listener ended with and that cannot be planned is nobody's for a while, and what is
// known of it stays, and grows by no more; but where it is to be tried alone, only a lease that runs out says so.
func TestSuspectIsPutOff(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		ended  int // listeners, by the lease that runs out
		nobody bool
	}{
		{"one listener ended", 1, true},
		{"two did", 2, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			var plans atomic.Int32
			r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) { plans.Add(1); return nil, errAway }}
			id := insert(t, db, "fails", `{}`)
			pgtest.Exec(t, db, `update outbox_events set claim = gen_random_uuid(), lease_until = now()`)
			if tt.ended > 1 {
				pgtest.Exec(t, db, `insert into outbox.crashes (id, count) values ($1, $2)`, id, tt.ended-1)
			}
			start(t, newListener(t, db, routed(newProvider(nil), plain, r), nil))
			for n := range int32(2) {
				pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
					left := pgtest.QueryVal[bool](t, db, `select lease_until > now() and (claim = $1) = $2 from outbox_events`, sql.PutOff, tt.nobody)
					return plans.Load() == n+1 && left, fmt.Sprintf("%d plans, left as it is to be: %t", plans.Load(), left)
				})
				if !tt.nobody {
					break
				}
				if n := pgtest.QueryVal[int](t, db, `select count from outbox.crashes where id = $1`, id); n != tt.ended {
					t.Errorf("%d ends are on its account, want %d", n, tt.ended)
				}
				pgtest.Exec(t, db, `update outbox_events set lease_until = now()`)
			}
		})
	}
}

// TestNotAllOfAType: while others of their type are planned, those that are put off are tried once more, in order and a few
// a second, so that those that can be planned now are, above however many that cannot.
func TestNotAllOfAType(t *testing.T) {
	t.Parallel()
	const bad, good = 150, 50
	db, p := pgtest.New(t), newProvider(nil)
	var fails atomic.Int32
	r := router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
		if strings.Contains(string(ev.Payload), "bad") {
			fails.Add(1)
			return nil, errAway
		}
		return []dispatch.Message{step("one", dispatch.Terms{})}, nil
	}}
	l := newListener(t, db, routed(p, plain, r), func(c *listener.Config) { c.Workers, c.BatchSize = 1, 2 })
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, claim, lease_until)
		select 'e', case when n <= $2 then '{"bad": 1}' else '{}' end::jsonb, $1, now() + interval '1 hour' from generate_series(1, $2::int + $3::int) as n`, sql.PutOff, bad, good)
	begun := time.Now()
	pgtest.Exec(t, db, `update outbox_events set lease_until = now() where seq = (select max(seq) from outbox_events)`) // it is planned
	start(t, l)
	pgtest.Eventually(t, time.Minute, func() (bool, string) {
		return p.count() == good, fmt.Sprintf("%d of %d delivered", p.count(), good)
	})
	if took := time.Since(begun); took < (bad/20-1)*time.Second {
		t.Errorf("%d that fail were tried within %s", bad, took)
	}
	if n := fails.Load(); n < bad || n > 4*bad {
		t.Errorf("%d plans of the %d that fail", n, bad)
	}
}

// TestSlowPlansLeaveHands: plans that do not end, since a table that they look into is
// locked, leave hands for what is to be sent.
func TestSlowPlansLeaveHands(t *testing.T) {
	t.Parallel()
	db, p, unlocked := pgtest.New(t), newProvider(nil), make(chan struct{})
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		<-unlocked
		return []dispatch.Message{step("one", dispatch.Terms{})}, nil
	}}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'slow', '{}' from generate_series(1, 10)`)
	start(t, newListener(t, db, routed(p, plain, r), func(c *listener.Config) { c.Workers = 4 }))
	defer close(unlocked)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		return pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where claim is not null`) == 10, "not claimed"
	})
	deliveryRow(t, db, `channel = 'carrier', state = 'ready', finished_at = null, provider_id = null, due_at = now()`)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) { return p.count() == 1, "not sent beside plans that wait" })
}

// TestUnplannedIsGivenBack: an event that waits to be planned again is free when
// its listener stops, and when a run that does not wait for it is over.
func TestUnplannedIsGivenBack(t *testing.T) {
	t.Parallel()
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) { return nil, errAway }}
	free := func(t *testing.T, db *pgtest.DB) {
		t.Helper()
		if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where processed_at is null and lease_until is null`); n != 1 {
			t.Error("it is left to its lease")
		}
	}
	t.Run("Run", func(t *testing.T) {
		t.Parallel()
		db := pgtest.New(t)
		l := newListener(t, db, routed(newProvider(nil), plain, r), nil)
		stop := start(t, l)
		insert(t, db, "e", `{}`)
		pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
			claimed := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where claim is not null`)
			return claimed == 1 && l.Health().Held == 1, fmt.Sprintf("%d claimed, %d held", claimed, l.Health().Held)
		})
		stop()
		free(t, db)
	})
	t.Run("Once", func(t *testing.T) {
		t.Parallel()
		db := pgtest.New(t)
		insert(t, db, "e", `{}`)
		begun := time.Now()
		st, err := newListener(t, db, routed(newProvider(nil), plain, r), nil).Once(t.Context(), 0)
		if err != nil || st != (listener.Stats{Total: 1, Errors: 1}) || time.Since(begun) > 10*time.Second {
			t.Errorf("%+v, %v, after %s", st, err, time.Since(begun))
		}
		free(t, db)
	})
}
