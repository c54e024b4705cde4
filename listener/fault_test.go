package listener_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/devpg"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// blocker is a Sender that keeps each delivery until it is told to go on.
type blocker struct {
	*provider
	entered chan uuid.UUID
	gate    chan struct{}
}

func newBlocker() *blocker {
	return &blocker{provider: newProvider(nil), entered: make(chan uuid.UUID, 1000), gate: make(chan struct{})}
}

func (b *blocker) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	b.entered <- d.EventID
	select {
	case <-b.gate:
	case <-ctx.Done():
		return dispatch.Receipt{}, &dispatch.Error{Kind: dispatch.Down, Err: ctx.Err()}
	}
	return b.provider.Send(ctx, d)
}

// TestSweepFindsWhatNobodyAnnounced: with the trigger disabled, and with
// triggers off for the session, events arrive within a sweep.
func TestSweepFindsWhatNobodyAnnounced(t *testing.T) {
	t.Parallel()
	db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
	channel(d, "greeting", "carrier", p, plain)
	l := newListener(t, db, d, func(c *listener.Config) { c.PollInterval = 300 * time.Millisecond })
	start(t, l)
	listening(t, l)
	pgtest.Exec(t, db, `alter table outbox_events disable trigger outbox_events_wake`)
	insert(t, db, "greeting", `{}`)
	processed(t, db, 2*time.Second)
	pgtest.Exec(t, db, `alter table outbox_events enable trigger outbox_events_wake`)
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`set local session_replication_role = replica`,
		`insert into outbox_events (type, payload) values ('greeting', '{}')`,
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	processed(t, db, 2*time.Second)
	if p.count() != 2 {
		t.Errorf("%d sent, want 2", p.count())
	}
}

// TestListenConnectionDies: events arrive within seconds although the session
// that listens was terminated, and it listens again.
func TestListenConnectionDies(t *testing.T) {
	t.Parallel()
	db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
	channel(d, "greeting", "carrier", p, plain)
	l := newListener(t, db, d, func(c *listener.Config) { c.PollInterval = time.Minute })
	start(t, l)
	ended := 0 // the session that was terminated last may take a moment to go
	for range 3 {
		var pid int
		pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
			pid = pgtest.QueryVal[int](t, db, `select coalesce(max(pid), 0) from pg_stat_activity
				where application_name = 'outbox-listener listen' and datname = current_database() and pid <> $1`, ended)
			return pid != 0 && l.Health().Listening, "no LISTEN session"
		})
		if !pgtest.QueryVal[bool](t, db, `select pg_terminate_backend($1)`, pid) {
			t.Fatal("LISTEN session not terminated")
		}
		ended = pid
		insert(t, db, "greeting", `{}`)
		processed(t, db, 5*time.Second)
	}
	if p.count() != 3 {
		t.Errorf("%d sent, want 3", p.count())
	}
}

// TestServerRestarts: delivery resumes within 5 s after the server accepts
// connections again, in either way of going down.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	for _, mode := range []devpg.Mode{devpg.Fast, devpg.Immediate} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			server := pgtest.Private(t)
			db, d, p := pgtest.NewOn(t, server), dispatch.New(), newProvider(nil)
			channel(d, "greeting", "carrier", p, careful)
			l := newListener(t, db, d, func(c *listener.Config) { c.PollInterval = time.Minute })
			start(t, l)
			listening(t, l)
			insert(t, db, "greeting", `{}`)
			processed(t, db, 5*time.Second)
			if err := server.Restart(t.Context(), mode); err != nil {
				t.Fatal(err)
			}
			up := time.Now()
			pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
				_, err := db.Pool.Exec(t.Context(), `insert into outbox_events (type, payload) values ('greeting', '{}')`)
				return err == nil, fmt.Sprint(err)
			})
			processed(t, db, 5*time.Second-time.Since(up))
			t.Logf("resumed after %s", time.Since(up))
			if p.count() != 2 {
				t.Errorf("%d sent, want 2", p.count())
			}
		})
	}
}

// TestTakeOver: what a listener that stopped breathing had claimed is done by
// another within lease and sweep, and the first one's outcome is fenced off.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		policy dispatch.Policy
		want   string
		sends  int // by the one that took over
	}{
		{"resent where that is harmless", plain, "delivered", 1},
		{"resent under the same id", mailish, "delivered", 1},
		{"held where a second one would be seen", careful, "held", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			stuck, taker := newBlocker(), newProvider(nil)
			d1, d2 := dispatch.New(), dispatch.New()
			channel(d1, "greeting", "carrier", stuck, tt.policy)
			channel(d2, "greeting", "carrier", taker, tt.policy)
			// It does not sweep: else it might find its own row before the other one does.
			l1 := newListener(t, db, d1, func(c *listener.Config) { c.Lease, c.PollInterval = time.Hour, time.Hour })
			start(t, l1)
			id := insert(t, db, "greeting", `{}`)
			<-stuck.entered
			// It cannot renew any more: its row moves on as it would if
			// the process had stopped. Parked or not, somebody else may
			// take it now.
			pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
				n := pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() - interval '1 second', claim = gen_random_uuid() where due_at is not null`)
				return n == 1, "not parked yet"
			})
			l2 := newListener(t, db, d2, func(c *listener.Config) { c.Lease = 2 * time.Second; c.PollInterval = 200 * time.Millisecond })
			start(t, l2)
			pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
				got := ledgerOf(t, db, id)
				return got.State == tt.want, fmt.Sprintf("%+v", got)
			})
			close(stuck.gate) // the first one comes back with a late outcome
			pgtest.Eventually(t, 20*time.Second, func() (bool, string) { return l1.Health().Fenced == 1, "no outcome was fenced off" })
			if got := ledgerOf(t, db, id).State; got != tt.want {
				t.Errorf("after the late outcome: %s, want %s", got, tt.want)
			}
			if taker.count() != tt.sends {
				t.Errorf("the second listener sent %d, want %d", taker.count(), tt.sends)
			}
			if tt.sends == 1 && taker.sent[0].ID != stuck.sent[0].ID {
				t.Errorf("sent under two ids: %s and %s", taker.sent[0].ID, stuck.sent[0].ID)
			}
		})
	}
}

// TestSlowDeliveryIsParked: it does not hold its event's place, it is done
// once, and its neighbours pass.
func TestSlowDeliveryIsParked(t *testing.T) {
	t.Parallel()
	db, d, slow, p := pgtest.New(t), dispatch.New(), newBlocker(), newProvider(nil)
	channel(d, "slow", "snail", slow, careful)
	channel(d, "greeting", "carrier", p, plain)
	l := newListener(t, db, d, func(c *listener.Config) { c.Lease = 2 * time.Second })
	stop := start(t, l)
	id := insert(t, db, "slow", `{}`)
	<-slow.entered
	insert(t, db, "greeting", `{}`)
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		open := pgtest.QueryVal[string](t, db, `select coalesce(string_agg(type || ' ' || coalesce(lease_until::text, 'free'), ', '), '') from outbox_events where processed_at is null`)
		return open == "slow infinity", open
	})
	// Longer than its lease: it is renewed where it stands.
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		age := pgtest.QueryVal[float64](t, db, `select extract(epoch from clock_timestamp() - created_at)::float8 from outbox_events where type = 'slow'`)
		return age > 4, fmt.Sprintf("%.1f s old", age)
	})
	if got := ledgerOf(t, db, id); got.State != "sending" || !got.Due {
		t.Errorf("while it is under way: %+v", got)
	}
	close(slow.gate)
	processed(t, db, 5*time.Second)
	if got := ledgerOf(t, db, id); got.State != "delivered" || got.Attempts != 1 || got.Due {
		t.Errorf("ledger = %+v", got)
	}
	stop()
	if slow.count() != 1 || p.count() != 1 {
		t.Errorf("sent %d slow and %d quick, want 1 and 1", slow.count(), p.count())
	}
}

// TestShutdownGivesBack: what is being sent is finished, what was only
// claimed is free at once and uncounted, and nothing stays leased.
func TestShutdownGivesBack(t *testing.T) {
	t.Parallel()
	db, d, b := pgtest.New(t), dispatch.New(), newBlocker()
	for i := range 3 { // one channel, that has never answered, would have one worker
		channel(d, fmt.Sprint("greeting", i), dispatch.Channel(fmt.Sprint("carrier", i)), b, careful)
	}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'greeting' || n % 3, '{}' from generate_series(1, 12) as n`)
	l := newListener(t, db, d, func(c *listener.Config) { c.Workers = 3 })
	stop := start(t, l)
	for range 3 {
		<-b.entered
	}
	var wg sync.WaitGroup
	wg.Go(stop)
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		h := l.Health()
		return h.Held == 3, fmt.Sprintf("%d held", h.Held)
	})
	close(b.gate)
	wg.Wait()
	if b.count() != 3 {
		t.Errorf("%d sent, want 3", b.count())
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where lease_until is not null`); n != 0 {
		t.Errorf("%d events leased after the stop", n)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries`); n != 3 {
		t.Errorf("%d in the ledger, want 3", n)
	}
}

// TestGraceEnds: what does not end in time is cut short, and is due again
// uncounted when nothing left.
func TestGraceEnds(t *testing.T) {
	t.Parallel()
	db, d, b := pgtest.New(t), dispatch.New(), newBlocker()
	channel(d, "greeting", "carrier", b, careful)
	id := insert(t, db, "greeting", `{}`)
	l := newListener(t, db, d, func(c *listener.Config) { c.ShutdownGrace = 100 * time.Millisecond })
	stop := start(t, l)
	<-b.entered
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("stopped after %s", took)
	}
	if got := ledgerOf(t, db, id); got.State != "ready" || got.Attempts != 0 || !got.Due {
		t.Errorf("ledger = %+v", got)
	}
	p := newProvider(nil)
	d2 := dispatch.New()
	channel(d2, "greeting", "carrier", p, careful)
	if stats, err := newListener(t, db, d2, nil).Once(t.Context(), 0); err != nil || stats.Processed != 1 {
		t.Errorf("Once = %+v, %v", stats, err)
	}
}

// TestReopen: processed_at set back to null asks again for what did not
// arrive, and for nothing else.
func TestReopen(t *testing.T) {
	t.Parallel()
	db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
	fails := true
	channel(d, "greeting", "carrier", p, plain)
	broken := newProvider(func(*dispatch.Delivery) error {
		if fails {
			return &dispatch.Error{Kind: dispatch.Rejected, Err: fmt.Errorf("no")}
		}
		return nil
	})
	d.Register("pigeon", broken, careful)
	d.Route("both", func(_ context.Context, ev dispatch.Event) []dispatch.Message {
		return []dispatch.Message{
			{Route: "test", Step: "one", Channel: "carrier", Recipient: "a", Content: ev.Payload},
			{Route: "test", Step: "two", Channel: "pigeon", Recipient: "b", Content: ev.Payload},
		}
	})
	insert(t, db, "both", `{}`)
	insert(t, db, "unheard", `{}`)
	once := func() listener.Stats {
		stats, err := newListener(t, db, d, nil).Once(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return stats
	}
	if got, want := once(), (listener.Stats{Total: 2, Skipped: 1, Errors: 1}); got != want {
		t.Errorf("first run: %+v, want %+v", got, want)
	}
	fails = false
	channel(d, "unheard", "heron", p, plain)
	pgtest.Exec(t, db, `update outbox_events set processed_at = null`)
	if got, want := once(), (listener.Stats{Total: 2, Processed: 2}); got != want {
		t.Errorf("after opening again: %+v, want %+v", got, want)
	}
	if n := p.count(); n != 2 { // once for "both", once for "unheard"
		t.Errorf("the channel that had it got %d, want 2", n)
	}
	if broken.count() != 2 || broken.sent[0].ID == broken.sent[1].ID {
		t.Errorf("the other got %d: %v", broken.count(), broken.sent)
	}
	if got := once(); got != (listener.Stats{}) {
		t.Errorf("third run: %+v", got)
	}
}

// TestPersonSettles: a held delivery is sent again, or withdrawn, as
// docs/ledger.md says.
func TestPersonSettles(t *testing.T) {
	t.Parallel()
	db, d := pgtest.New(t), dispatch.New()
	p := newProvider(func(d *dispatch.Delivery) error {
		if d.Attempt == 1 {
			return &dispatch.Error{Kind: dispatch.Unknown, Err: fmt.Errorf("no answer")}
		}
		return nil
	})
	channel(d, "greeting", "carrier", p, careful)
	again, gone := insert(t, db, "greeting", `{}`), insert(t, db, "greeting", `{}`)
	l := newListener(t, db, d, func(c *listener.Config) { c.PollInterval = 200 * time.Millisecond })
	start(t, l)
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where state = 'held'`)
		return n == 2, fmt.Sprintf("%d held", n)
	})
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'ready', due_at = now() where event_id = $1`, again)
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'canceled', finished_at = now(), due_at = now() where event_id = $1`, gone)
	processed(t, db, 5*time.Second)
	if got := ledgerOf(t, db, again); got.State != "delivered" || got.Attempts != 2 {
		t.Errorf("released: %+v", got)
	}
	if got := ledgerOf(t, db, gone); got.State != "canceled" || got.Attempts != 1 || got.Due {
		t.Errorf("withdrawn: %+v", got)
	}
}

// TestDeletedEvent: the row of an event may go while it is being sent; what
// left is on record all the same.
func TestDeletedEvent(t *testing.T) {
	t.Parallel()
	db, d, b := pgtest.New(t), dispatch.New(), newBlocker()
	channel(d, "greeting", "carrier", b, careful)
	l := newListener(t, db, d, nil)
	start(t, l)
	id := insert(t, db, "greeting", `{}`)
	<-b.entered
	pgtest.Exec(t, db, `delete from outbox_events`)
	close(b.gate)
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		got := ledgerOf(t, db, id)
		return got.State == "delivered", fmt.Sprintf("%+v", got)
	})
}

// slowToConnect is a Sender that has its connection only when the first delivery is
// not its listener's any more.
type slowToConnect struct {
	entered chan struct{}
	late    atomic.Int32
	sent    atomic.Int32
}

func (s *slowToConnect) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	select {
	case s.entered <- struct{}{}: // the first
		for dispatch.Ours(ctx) && ctx.Err() == nil {
			time.Sleep(time.Millisecond) // as a dial would
		}
	default:
	}
	if !dispatch.Ours(ctx) {
		s.late.Add(1)
		return dispatch.Receipt{}, &dispatch.Error{Kind: dispatch.Down, Err: dispatch.ErrLate}
	}
	s.sent.Add(1)
	return dispatch.Receipt{}, nil
}

// TestLateConnection: a delivery that was taken over while its connection was made does
// not leave, and that is no attempt.
func TestLateConnection(t *testing.T) {
	t.Parallel()
	db, d := pgtest.New(t), dispatch.New()
	s := &slowToConnect{entered: make(chan struct{}, 1)}
	channel(d, "greeting", "carrier", s, dispatch.Policy{Provider: true, Timeout: time.Minute})
	id := insert(t, db, "greeting", `{}`)
	start(t, newListener(t, db, d, func(c *listener.Config) { c.Lease = time.Second; c.PollInterval = 200 * time.Millisecond }))
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) { return len(s.entered) == 1, "nothing is sent" })
	pgtest.Exec(t, db, `update outbox_events set claim = gen_random_uuid(), lease_until = now() - interval '1 second' where processed_at is null`)
	pgtest.Exec(t, db, `update outbox.deliveries set claim = gen_random_uuid(), due_at = now() - interval '1 second' where due_at is not null`)
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		got := pgtest.QueryVal[string](t, db, `select coalesce((select state || ' ' || attempts from outbox.deliveries where event_id = '`+id.String()+`'), '')`)
		return got == "delivered 1", got
	})
	if s.late.Load() != 1 || s.sent.Load() != 1 {
		t.Errorf("%d late and %d sent, want one each", s.late.Load(), s.sent.Load())
	}
}
