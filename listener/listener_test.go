package listener_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// at-least-once, for receivers that tell repeats apart; and the opposite.
var (
	plain   = dispatch.Policy{}
	careful = dispatch.Policy{Announce: true, OnUnknown: dispatch.Hold}
	mailish = dispatch.Policy{Announce: true, OnUnknown: dispatch.Resend}
)

func TestInsertIsDelivered(t *testing.T) {
	t.Parallel()
	for _, policy := range []dispatch.Policy{plain, careful} {
		t.Run(fmt.Sprintf("announce=%t", policy.Announce), func(t *testing.T) {
			t.Parallel()
			db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
			channel(d, "greeting", "carrier", p, policy)
			l := newListener(t, db, d, nil)
			start(t, l)
			listening(t, l)
			id := insert(t, db, "greeting", `{"n": 12345678901234567890.5}`)
			processed(t, db, 5*time.Second)
			if got := ledgerOf(t, db, id); got != (ledger{State: "delivered", Attempts: 1}) {
				t.Errorf("ledger = %+v", got)
			}
			if p.count() != 1 || string(p.sent[0].Content) != `{"n": 12345678901234567890.5}` {
				t.Errorf("sent %d times: %s", p.count(), p.sent[0].Content)
			}
			if p.sent[0].Attempt != 1 || p.sent[0].EventID != id {
				t.Errorf("delivery = %+v", p.sent[0])
			}
			if got := pgtest.QueryVal[string](t, db, `select provider_id from outbox.deliveries`); !strings.HasPrefix(got, "taken-") {
				t.Errorf("provider_id = %q", got)
			}
		})
	}
}

// TestManyWriters: committed events arrive once each, rolled back ones never,
// with several listeners sharing the work.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 150
	db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
	channel(d, "greeting", "carrier", p, plain)
	for range 3 {
		start(t, newListener(t, db, d, nil))
	}
	var want atomic.Int64
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				tx, err := db.Pool.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				_, err = tx.Exec(t.Context(), `insert into outbox_events (type, payload) values ('greeting', $1)`, map[string]int{"w": w, "i": i})
				switch {
				case err != nil:
				case i%7 == 3:
					err = tx.Rollback(t.Context())
				default:
					want.Add(1)
					err = tx.Commit(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	processed(t, db, 20*time.Second)
	got := p.byEvent()
	if len(got) != int(want.Load()) {
		t.Errorf("%d events arrived, want %d", len(got), want.Load())
	}
	for id, n := range got {
		if n != 1 {
			t.Errorf("event %s arrived %d times", id, n)
		}
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where state = 'delivered'`); n != len(got) {
		t.Errorf("%d delivered in the ledger, want %d", n, len(got))
	}
}

func TestFailuresAreSorted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		policy dispatch.Policy
		err    error
		want   ledger
		open   bool // the event stays unprocessed
	}{
		{"down is tried again", plain, &dispatch.Error{Kind: dispatch.Down, Err: errors.New("refused")}, ledger{"retry", 1, "refused", true}, true},
		{"throttled is tried again", careful, &dispatch.Error{Kind: dispatch.Throttled, RetryAfter: time.Hour, Err: errors.New("slow down")}, ledger{"retry", 1, "slow down", true}, true},
		{"rejected is dead", careful, &dispatch.Error{Kind: dispatch.Rejected, Err: errors.New("no such number")}, ledger{"dead", 1, "no such number", false}, false},
		{"unknown is resent where that is harmless", plain, &dispatch.Error{Kind: dispatch.Unknown, Err: errors.New("no answer")}, ledger{"uncertain", 1, "no answer", true}, true},
		{"unknown is held where it is not", careful, &dispatch.Error{Kind: dispatch.Unknown, Err: errors.New("no answer")}, ledger{"held", 1, "may have arrived", false}, true},
		{"an error without a kind is unknown", careful, errors.New("what is this"), ledger{"held", 1, "what is this", false}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, d := pgtest.New(t), dispatch.New()
			p := newProvider(func(*dispatch.Delivery) error { return tt.err })
			channel(d, "greeting", "carrier", p, tt.policy)
			id := insert(t, db, "greeting", `{}`)
			stats, err := newListener(t, db, d, nil).Once(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			if want := (listener.Stats{Total: 1, Errors: 1}); stats != want {
				t.Errorf("stats = %+v, want %+v", stats, want)
			}
			got := ledgerOf(t, db, id)
			if got.State != tt.want.State || got.Attempts != tt.want.Attempts || got.Due != tt.want.Due || !strings.Contains(got.Error, tt.want.Error) {
				t.Errorf("ledger = %+v, want %+v", got, tt.want)
			}
			if open := pgtest.QueryVal[bool](t, db, `select processed_at is null from outbox_events`); open != tt.open {
				t.Errorf("unprocessed = %t, want %t", open, tt.open)
			}
			if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.attempts`); n != 1 {
				t.Errorf("%d attempts on record, want 1", n)
			}
		})
	}
}

// TestRetrySucceeds: a delivery that failed is tried again when it is due,
// with the same id and bytes, and its event is processed then.
func TestRetrySucceeds(t *testing.T) {
	t.Parallel()
	for _, policy := range []dispatch.Policy{plain, careful} {
		t.Run(fmt.Sprintf("announce=%t", policy.Announce), func(t *testing.T) {
			t.Parallel()
			db, d := pgtest.New(t), dispatch.New()
			p := newProvider(func(d *dispatch.Delivery) error {
				if d.Attempt < 3 {
					return &dispatch.Error{Kind: dispatch.Down, Err: errors.New("refused")}
				}
				return nil
			})
			channel(d, "greeting", "carrier", p, policy)
			l := newListener(t, db, d, nil)
			start(t, l)
			listening(t, l)
			id := insert(t, db, "greeting", `{"text": "hello"}`)
			for n := 1; n <= 2; n++ {
				pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
					m := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where state = 'retry' and attempts = $1`, n)
					return m == 1, fmt.Sprintf("attempt %d not on record", n)
				})
				// The payload changes under way: what was frozen is sent.
				pgtest.Exec(t, db, `update outbox_events set payload = '{"text": "changed"}'`)
				pgtest.Exec(t, db, `update outbox.deliveries set due_at = now()`)
			}
			processed(t, db, 10*time.Second)
			if got := ledgerOf(t, db, id); got.State != "delivered" || got.Attempts != 3 || got.Due {
				t.Errorf("ledger = %+v", got)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			for i, s := range p.sent {
				if s.ID != p.sent[0].ID || string(s.Content) != `{"text": "hello"}` || s.Attempt != i+1 || !s.Date.Equal(p.sent[0].Date) {
					t.Errorf("attempt %d was %+v (%s)", i+1, s, s.Content)
				}
			}
		})
	}
}

func TestLastAttemptIsDead(t *testing.T) {
	t.Parallel()
	db, d := pgtest.New(t), dispatch.New()
	p := newProvider(func(*dispatch.Delivery) error {
		return &dispatch.Error{Kind: dispatch.Down, Err: errors.New("refused")}
	})
	channel(d, "greeting", "carrier", p, plain)
	id := insert(t, db, "greeting", `{}`)
	for range 3 {
		if _, err := newListener(t, db, d, func(c *listener.Config) { c.MaxAttempts = 3 }).Once(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() where due_at is not null`)
	}
	if got := ledgerOf(t, db, id); got.State != "dead" || got.Attempts != 3 || !strings.Contains(got.Error, "no attempts left") {
		t.Errorf("ledger = %+v", got)
	}
	processed(t, db, time.Second)
}

// TestOddEvents: an event that cannot be delivered says why, and does not
// keep its neighbours.
func TestOddEvents(t *testing.T) {
	t.Parallel()
	db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
	channel(d, "greeting", "carrier", p, plain)
	d.Route("panics", func(context.Context, dispatch.Event) []dispatch.Message { panic("boom") })
	d.Route("nothing", func(context.Context, dispatch.Event) []dispatch.Message { return nil })
	d.Route("unset", func(context.Context, dispatch.Event) []dispatch.Message {
		return []dispatch.Message{{Route: "test", Step: "pigeon", Channel: "pigeon"}}
	})
	big := `{"text": "` + strings.Repeat("x", 200_000) + `"}`
	events := map[string]uuid.UUID{}
	for _, e := range []struct{ name, typ, payload string }{
		{"unknown", "never.heard.of", `{}`},
		{"giant", "greeting", big},
		{"large", "greeting", `{"text": "` + strings.Repeat("y", 90_000) + `"}`},
		{"panics", "panics", `{}`},
		{"nothing", "nothing", `{}`},
		{"unset", "unset", `{}`},
		{"deep", "sms.send", strings.Repeat("[", 10_500) + strings.Repeat("]", 10_500)},
		{"null", "sms.send", `null`},
		{"fine", "greeting", `{}`},
	} {
		events[e.name] = insert(t, db, e.typ, e.payload)
	}
	stats, err := newListener(t, db, d, func(c *listener.Config) { c.MaxPayload = 100_000 }).Once(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := (listener.Stats{Total: 9, Processed: 2, Skipped: 3, Errors: 4}); stats != want {
		t.Errorf("stats = %+v, want %+v", stats, want)
	}
	for name, want := range map[string]ledger{
		"unknown": {State: "skipped", Error: "never.heard.of"},
		"giant":   {State: "dead", Error: "OUTBOX_MAX_PAYLOAD_BYTES=100000"},
		"large":   {State: "delivered", Attempts: 1},
		"panics":  {State: "dead", Error: "boom"},
		"nothing": {State: "skipped", Error: "nothing to deliver"},
		"unset":   {State: "skipped", Error: "pigeon not configured"},
		"deep":    {State: "dead", Error: "nest"},
		"null":    {State: "dead", Error: "object"},
		"fine":    {State: "delivered", Attempts: 1},
	} {
		got := ledgerOf(t, db, events[name])
		if got.State != want.State || got.Attempts != want.Attempts || !strings.Contains(got.Error, want.Error) {
			t.Errorf("%s: ledger = %+v, want %+v", name, got, want)
		}
	}
	processed(t, db, time.Second)
}

// TestOnceLimit: at most that many events, and the rest stays free.
func TestOnceLimit(t *testing.T) {
	t.Parallel()
	db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
	channel(d, "greeting", "carrier", p, plain)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(1, 25)`)
	for _, want := range []listener.Stats{{Total: 7, Processed: 7}, {Total: 18, Processed: 18}, {}} {
		limit := 0
		if want.Total == 7 {
			limit = 7
		}
		stats, err := newListener(t, db, d, nil).Once(t.Context(), limit)
		if err != nil || stats != want {
			t.Errorf("Once(%d) = %+v, %v; want %+v", limit, stats, err, want)
		}
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where lease_until is not null`); n != 0 {
		t.Errorf("%d events are leased after the run", n)
	}
}

// TestDrainBesideRun: a caller counts what it claimed, while the daemon goes on.
func TestDrainBesideRun(t *testing.T) {
	t.Parallel()
	db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
	channel(d, "greeting", "carrier", p, plain)
	l := newListener(t, db, d, nil)
	start(t, l)
	listening(t, l)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting', '{}' from generate_series(1, 500)`)
	var sum atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			stats, err := l.Drain(t.Context(), 50)
			if err != nil || stats.Total > 50 || stats.Total != stats.Processed {
				t.Errorf("Drain = %+v, %v", stats, err)
			}
			sum.Add(int64(stats.Total))
		})
	}
	wg.Wait()
	processed(t, db, 10*time.Second)
	if p.count() != 500 {
		t.Errorf("%d sent, want 500", p.count())
	}
}
