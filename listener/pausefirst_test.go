package listener_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/devpg"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// tooMany is the answer of a provider that asks for an hour.
func tooMany() error {
	return &dispatch.Error{Kind: dispatch.Throttled, Status: 429, RetryAfter: time.Hour, Err: errors.New("too many")}
}

// notesPauses has each row that comes of an event of a table, and meets a condition, note how many pauses are on record
// by then.
func notesPauses(t *testing.T, db *pgtest.DB, event, table, condition string) {
	t.Helper()
	pgtest.Exec(t, db, `create table seen (pauses bigint)`)
	pgtest.Exec(t, db, `create function recording() returns trigger language plpgsql as $$ begin insert into public.seen select count(*) from outbox.brakes; return new; end $$`)
	pgtest.Exec(t, db, `create trigger recording after `+event+` on `+table+` for each row when (`+condition+`) execute function recording()`)
}

// noted waits for the first such row, and reports whether a pause was on record by then.
func noted(t *testing.T, db *pgtest.DB) bool {
	t.Helper()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from seen`)
		return n == 1, fmt.Sprintf("%d outcomes", n)
	})
	return pgtest.QueryVal[int](t, db, `select pauses from seen`) == 1
}

// pausesDo has each pause that is to be put on record do something before.
func pausesDo(t *testing.T, db *pgtest.DB, what string) {
	t.Helper()
	pgtest.Exec(t, db, `create function pausing() returns trigger language plpgsql as $$ begin `+what+`; return new; end $$`)
	pgtest.Exec(t, db, `create trigger pausing before insert on outbox.brakes for each row execute function pausing()`)
}

// TestPauseBeforeItsOutcome: what a provider asks for is on record before the outcome that says so: whoever
// dies in between leaves no outcome behind that others do not heed. Where it cannot be put on record
// the outcome is, two seconds later.
func TestPauseBeforeItsOutcome(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		begins string // what becomes of the first pause that is to be on record
		heeded bool
	}{
		{"the pause takes long", `perform pg_sleep(0.3)`, true},
		{"there is none", `raise exception 'not now'`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, d := pgtest.New(t), dispatch.New()
			pausesDo(t, db, tt.begins)
			notesPauses(t, db, "insert", "outbox.attempts", "true")
			channel(d, "a", "braked", newProvider(func(*dispatch.Delivery) error { return tooMany() }), provided)
			l := newListener(t, db, d, nil)
			start(t, l)
			listening(t, l)
			begun := time.Now()
			insert(t, db, "a", `{}`)
			if got := noted(t, db); got != tt.heeded {
				t.Errorf("the pause is on record before the outcome: %t, want %t", got, tt.heeded)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestPauseBeforeItsLook: the same of one that is asked whether it has a delivery. What is too late to be sent is looked for
// still, and heeds the pause as all others do.
func TestPauseBeforeItsLook(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pausesDo(t, db, `perform pg_sleep(0.3)`)
	notesPauses(t, db, "update", "outbox.deliveries", "old.looks is null and new.looks is not null")
	var asked atomic.Int32
	sender := gossip{func(string) (dispatch.Found, error) {
		asked.Add(1)
		return dispatch.Found{}, tooMany()
	}}
	r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
		return []dispatch.Message{step("text", dispatch.Terms{Deadline: time.Now().Add(time.Hour), Retry: dispatch.Retries{OnUnknown: dispatch.Reconcile}})}, nil
	}}
	start(t, newListener(t, db, routed(sender, provided, r), func(c *listener.Config) {
		c.LookAfter, c.PollInterval = []time.Duration{0, time.Hour}, 100*time.Millisecond
	}))
	event := insert(t, db, "x", `{}`)
	if !noted(t, db) {
		t.Error("the look was on record before the pause")
	}
	stands(t, db, event, ledger{"uncertain", 1, "no clear answer came, and the provider did not say whether it has it: carrier: throttled (status 429): too many", true})
	pgtest.Exec(t, db, `update outbox.deliveries set deadline = clock_timestamp() - interval '1 second', due_at = clock_timestamp()`)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where state = 'uncertain' and due_at > clock_timestamp() + interval '50 minutes'`)
		return n == 1, "it is not put off until the pause is over"
	})
	if n := asked.Load(); n != 1 {
		t.Errorf("the provider was asked %d times, and the first time it asked for an hour", n)
	}
}

// throttled is a Sender whose answer comes when it is cut short.
type throttled chan uuid.UUID

func (s throttled) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	s <- d.EventID
	<-ctx.Done()
	return dispatch.Receipt{}, tooMany()
}

// TestPauseIsHeededAtAStop: what a provider asks for in the last moment of a stop is on record.
func TestPauseIsHeededAtAStop(t *testing.T) {
	t.Parallel()
	db, d, s := pgtest.New(t), dispatch.New(), make(throttled, 1)
	channel(d, "a", "braked", s, provided)
	l := newListener(t, db, d, func(c *listener.Config) { c.ShutdownGrace = 100 * time.Millisecond })
	stop := start(t, l)
	listening(t, l)
	insert(t, db, "a", `{}`)
	<-s
	stop()
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.brakes where until > clock_timestamp() + interval '50 minutes'`); n != 1 {
		t.Errorf("%d pauses on record, want 1", n)
	}
}

// TestPausesOutliveAStop: what a provider asked for while the database was away is on record after the next start, and before
// the outcome that asked for it. Where somebody has it locked then, it stays in a file until it is on record.
func TestPausesOutliveAStop(t *testing.T) {
	t.Parallel()
	for _, locked := range []bool{false, true} {
		t.Run(fmt.Sprintf("locked %t", locked), func(t *testing.T) {
			t.Parallel()
			server, dir := pgtest.Private(t), t.TempDir()
			db := pgtest.NewOn(t, server)
			notesPauses(t, db, "insert", "outbox.attempts", "true")
			_, d, _ := stopped(t, server, db, dir, provided, false, tooMany())
			files := spools(t, dir)
			if len(files) != 1 {
				t.Fatalf("files: %v", files)
			}
			text, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if lines := strings.Split(string(text), "\n"); len(lines) < 4 || !strings.HasPrefix(lines[1], `{"pause":`) || strings.Count(string(text), "pause") != 1 {
				t.Errorf("its first record is not the one pause: %s", text)
			}
			if err := server.Restart(t.Context(), devpg.Fast); err != nil {
				t.Fatal(err)
			}
			once := func() {
				t.Helper()
				stats, err := newListener(t, db, d, func(c *listener.Config) { c.StateDir = dir }).Once(t.Context(), 0)
				if err != nil || stats.Total != 0 {
					t.Errorf("left over: %+v, %v", stats, err)
				}
			}
			if locked {
				release := lock(t, db, `lock table outbox.brakes in share mode`)
				if once(); len(spools(t, dir)) == 0 {
					t.Error("the file is gone, and its pause is not on record")
				}
				release()
			}
			once()
			if first := noted(t, db); first == locked {
				t.Errorf("the pause was on record before the outcome: %t", first)
			}
			if got, want := pgtest.QueryVal[string](t, db, `select concat_ws(' ', destination, reason, until between clock_timestamp() + interval '50 minutes' and clock_timestamp() + interval '1 hour') from outbox.brakes`),
				"carrier carrier: throttled (status 429): too many t"; got != want {
				t.Errorf("on record is %q, want %q", got, want)
			}
			if files := spools(t, dir); len(files) != 0 {
				t.Errorf("left: %v", files)
			}
		})
	}
}
