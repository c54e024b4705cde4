package listener_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/devpg"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// spools are the files of a state directory.
func spools(t testing.TB, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// stopped is what TestOutcomesOutliveAStop and others begin with: a delivery that
// the provider has answered with err, and a listener that was told to stop while the
// database was away. It returns the event.
func stopped(t testing.TB, server *devpg.Server, db *pgtest.DB, dir string, policy dispatch.Policy, parked bool, answer error) (uuid.UUID, *dispatch.Dispatcher, *blocker) {
	t.Helper()
	d, b := dispatch.New(), newBlocker()
	b.answer = func(*dispatch.Delivery) error { return answer }
	channel(d, "greeting", "carrier", b, policy)
	l := newListener(t, db, d, func(c *listener.Config) {
		c.Lease, c.ShutdownGrace, c.StateDir = 20*time.Second, 200*time.Millisecond, dir
	})
	stop := start(t, l)
	listening(t, l)
	id := insert(t, db, "greeting", `{"secret": "words"}`)
	<-b.entered
	if parked {
		pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
			n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where lease_until = 'infinity'`)
			return n == 1, "not parked yet"
		})
		pgtest.Drains(t, 5*time.Second, "it is not answered yet that it is parked", func() int { return underWay(t, db) })
	}
	if err := server.Halt(t.Context(), devpg.Fast); err != nil {
		t.Fatal(err)
	}
	close(b.gate)
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) { return b.count() == 1, "not sent" })
	stop()
	return id, d, b
}

// underWay is how many statements and transactions of others the server has in hand. Where it has none
// they were answered all that it has done for them.
func underWay(t testing.TB, db *pgtest.DB) int {
	t.Helper()
	return pgtest.QueryVal[int](t, db, `select count(*) from pg_stat_activity where datname = current_database() and state <> 'idle' and pid <> pg_backend_pid()`)
}

// TestOutcomesOutliveAStop: what a provider answered while the database was away
// is on record after the next start, though the listener was told to stop
// meanwhile; nothing is sent again. What the file has is what the ledger is to have.
func TestOutcomesOutliveAStop(t *testing.T) {
	t.Parallel()
	down := &dispatch.Error{Channel: "carrier", Kind: dispatch.Down, Status: 503, RetryAfter: time.Hour}
	for _, tt := range []struct {
		name   string
		policy dispatch.Policy
		parked bool
		answer error
		want   ledger
		words  bool // whether the file has what the message says
	}{
		{"taken", plain, false, nil, ledger{State: "delivered", Attempts: 1}, false},
		{"taken, announced", careful, false, nil, ledger{State: "delivered", Attempts: 1}, false},
		{"taken, on its own", plain, true, nil, ledger{State: "delivered", Attempts: 1}, false},
		{"not taken", plain, false, down, ledger{State: "retry", Attempts: 1, Error: "carrier: down (status 503)", Due: true}, true},
		{"not taken, on its own", careful, true, down, ledger{State: "retry", Attempts: 1, Error: "carrier: down (status 503)", Due: true}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, dir := pgtest.Private(t), t.TempDir()
			db := pgtest.NewOn(t, server)
			id, d, b := stopped(t, server, db, dir, tt.policy, tt.parked, tt.answer)
			files := spools(t, dir)
			if len(files) != 1 {
				t.Fatalf("files: %v", files)
			}
			text, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			// Where halting took that long, its event was to be parked, with what it says.
			words := tt.words || !tt.parked && strings.Contains(string(text), `"open":true`)
			if strings.Contains(string(text), "5550006") || strings.Contains(string(text), "words") != words {
				t.Errorf("the file has: %s", text)
			}
			if err := server.Restart(t.Context(), devpg.Fast); err != nil {
				t.Fatal(err)
			}
			// Twice: the second start finds nothing to do, and neither did the first.
			for range 2 {
				stats, err := newListener(t, db, d, func(c *listener.Config) { c.StateDir = dir }).Once(t.Context(), 0)
				if err != nil || stats.Total != 0 {
					t.Errorf("left over: %+v, %v", stats, err)
				}
				if got := ledgerOf(t, db, id); got != tt.want {
					t.Errorf("ledger %+v, want %+v", got, tt.want)
				}
			}
			if files := spools(t, dir); len(files) != 0 {
				t.Errorf("left: %v", files)
			}
			if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where (processed_at is not null) <> $1`, tt.answer == nil); n != 0 {
				t.Error("its event is processed where its delivery is open, or the other way round")
			}
			if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.attempts`); (n == 1) != (tt.answer != nil) {
				t.Errorf("%d attempts on record that were not taken", n)
			}
			if tt.answer == nil {
				if id := pgtest.QueryVal[string](t, db, `select provider_id from outbox.deliveries`); !strings.HasPrefix(id, "taken-") {
					t.Errorf("provider_id %q", id)
				}
			}
			if tt.answer != nil { // it goes on, with the words that it had
				pgtest.Exec(t, db, `update outbox.deliveries set due_at = clock_timestamp()`)
				b.answer = nil
				if stats, err := newListener(t, db, d, nil).Once(t.Context(), 0); err != nil || stats.Processed != 1 {
					t.Errorf("then: %+v, %v", stats, err)
				}
				if last := b.sent[len(b.sent)-1]; !strings.Contains(string(last.Content), "words") || last.ID != b.sent[0].ID {
					t.Errorf("sent again as %s %s", last.ID, last.Content)
				}
			}
		})
	}
}

// TestSpoolGoesAroundLocks: a row that somebody has locked keeps neither the start back nor
// what is delivered then. Its outcome is on record once it is free, and nothing is sent again.
func TestSpoolGoesAroundLocks(t *testing.T) {
	t.Parallel()
	server, dir := pgtest.Private(t), t.TempDir()
	db := pgtest.NewOn(t, server)
	id, d, b := stopped(t, server, db, dir, plain, false, nil)
	if err := server.Restart(t.Context(), devpg.Fast); err != nil {
		t.Fatal(err)
	}
	release := lock(t, db, `select from outbox_events where processed_at is null for update`)
	l := newListener(t, db, d, func(c *listener.Config) { c.StateDir = dir })
	start(t, l)
	other := insert(t, db, "greeting", `{}`)
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where event_id = $1 and state = 'delivered'`, other)
		return n == 1, "the other event is not delivered"
	})
	if files := spools(t, dir); len(files) != 1 {
		t.Errorf("while the row is locked, the files are %v", files)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where event_id = $1`, id); n != 0 {
		t.Error("it is on record, though its event is locked: this test shows nothing")
	}
	release()
	processed(t, db, 20*time.Second)
	if got, want := ledgerOf(t, db, id), (ledger{State: "delivered", Attempts: 1}); got != want {
		t.Errorf("ledger %+v, want %+v", got, want)
	}
	if n := b.count(); n != 2 {
		t.Errorf("sent %d times, want once each", n)
	}
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) { return len(spools(t, dir)) == 0, "the file is still there" })
}

// TestSpoolHoldsDeliveries: a delivery on its own whose outcome waits since somebody has its
// event locked can be claimed by nobody meanwhile, though its lease ran out.
func TestSpoolHoldsDeliveries(t *testing.T) {
	t.Parallel()
	server, dir := pgtest.Private(t), t.TempDir()
	db := pgtest.NewOn(t, server)
	id, d, b := stopped(t, server, db, dir, plain, true, nil)
	if err := server.Restart(t.Context(), devpg.Fast); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = clock_timestamp() - interval '1 minute'`)
	release := lock(t, db, `select from outbox_events where processed_at is null for update`)
	start(t, newListener(t, db, d, func(c *listener.Config) {
		c.StateDir, c.Lease, c.PollInterval = dir, time.Second, 100*time.Millisecond
	}))
	other := insert(t, db, "greeting", `{}`)
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where event_id = $1 and state = 'delivered'`, other)
		return n == 1, "the other event is not delivered"
	})
	time.Sleep(3 * time.Second) // leases, and sweeps that would find it
	if n := b.count(); n != 2 || len(spools(t, dir)) != 1 {
		t.Errorf("sent %d times while the row is locked, want once each; files: %v", n, spools(t, dir))
	}
	release()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) { return len(spools(t, dir)) == 0, "the file is still there" })
	if got, want := ledgerOf(t, db, id), (ledger{State: "delivered", Attempts: 1}); got != want {
		t.Errorf("ledger %+v, want %+v", got, want)
	}
	if n := b.count(); n != 2 {
		t.Errorf("sent %d times, want once each", n)
	}
}

// TestSpoolIsFenced: what somebody else took over since is theirs, and what is of
// another database, torn or foreign is kept and keeps nothing back.
func TestSpoolIsFenced(t *testing.T) {
	t.Parallel()
	server, dir := pgtest.Private(t), t.TempDir()
	db := pgtest.NewOn(t, server)
	id, d, b := stopped(t, server, db, dir, plain, false, nil)
	if err := server.Restart(t.Context(), devpg.Fast); err != nil {
		t.Fatal(err)
	}
	once := func(db *pgtest.DB) listener.Stats {
		t.Helper()
		stats, err := newListener(t, db, d, func(c *listener.Config) { c.StateDir = dir }).Once(t.Context(), 0)
		if err != nil {
			t.Error(err)
		}
		return stats
	}
	file := spools(t, dir)[0]
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := pgtest.NewOn(t, server)
	pgtest.Exec(t, other, `insert into outbox_events (id, type, payload) values ($1, 'nobody knows it', '{}')`, uuid.New())
	once(other)
	if n := pgtest.QueryVal[int](t, other, `select count(*) from outbox.deliveries where event_id = $1`, id); n != 0 {
		t.Errorf("%d deliveries of another database were recorded", n)
	}
	if got := spools(t, dir); len(got) != 1 || got[0] != file {
		t.Fatalf("files: %v, want %s", got, file)
	}

	// Another listener, which knows nothing of the directory, takes it over.
	pgtest.Exec(t, db, `update outbox_events set lease_until = clock_timestamp() - interval '1 second'`)
	if stats, err := newListener(t, db, d, nil).Once(t.Context(), 0); err != nil || stats.Processed != 1 {
		t.Errorf("taken over: %+v, %v", stats, err)
	}
	claim := pgtest.QueryVal[uuid.UUID](t, db, `select claim from outbox_events`)
	once(db)
	if files := spools(t, dir); len(files) != 0 || b.count() != 2 {
		t.Errorf("left: %v; sent %d times, want 2", files, b.count())
	}
	if now := pgtest.QueryVal[uuid.UUID](t, db, `select claim from outbox_events`); now != claim {
		t.Error("what was kept was written over what another listener has recorded")
	}

	torn := filepath.Join(dir, "outcomes-torn.jsonl")
	for name, text := range map[string][]byte{torn: text[:len(text)-10], filepath.Join(dir, "outcomes-foreign.jsonl"): []byte("hello\n")} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	late := insert(t, db, "greeting", `{}`)
	if stats := once(db); stats.Processed != 1 || b.byEvent()[late] != 1 {
		t.Errorf("beside files that are refused: %+v", stats)
	}
	for _, f := range spools(t, dir) {
		if !strings.HasSuffix(f, ".jsonl.refused") {
			t.Errorf("left: %s", f)
		}
	}
	if n := len(spools(t, dir)); n != 2 {
		t.Errorf("%d files are kept aside, want 2", n)
	}
}

// TestSpoolOfDeletedEvent: what left for an event that was deleted meanwhile is on
// record all the same, as without a stop.
func TestSpoolOfDeletedEvent(t *testing.T) {
	t.Parallel()
	server, dir := pgtest.Private(t), t.TempDir()
	db := pgtest.NewOn(t, server)
	id, d, _ := stopped(t, server, db, dir, plain, false, nil)
	if err := server.Restart(t.Context(), devpg.Fast); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, db, `delete from outbox_events`)
	if _, err := newListener(t, db, d, func(c *listener.Config) { c.StateDir = dir }).Once(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if got := ledgerOf(t, db, id); got.State != "delivered" {
		t.Errorf("ledger: %+v", got)
	}
}

// TestSpoolWaitsForTheDatabase: a daemon that starts while the database is away
// records what was kept once it is back, and before it claims anything.
func TestSpoolWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	server, dir := pgtest.Private(t), t.TempDir()
	db := pgtest.NewOn(t, server)
	id, d, b := stopped(t, server, db, dir, careful, false, nil)
	// As a listener whose lease ran out meanwhile would be found by any claim.
	l := newListener(t, db, d, func(c *listener.Config) { c.StateDir, c.PollInterval = dir, 100*time.Millisecond })
	start(t, l)
	if err := server.Restart(t.Context(), devpg.Fast); err != nil {
		t.Fatal(err)
	}
	listening(t, l)
	processed(t, db, 10*time.Second)
	if got := ledgerOf(t, db, id); got.State != "delivered" || b.count() != 1 {
		t.Errorf("ledger %+v, sent %d times", got, b.count())
	}
}

// TestStopWithoutStateDir: without a directory nothing is kept, one line says how
// much that is, and leases run out as after a crash.
func TestStopWithoutStateDir(t *testing.T) {
	t.Parallel()
	server := pgtest.Private(t)
	db := pgtest.NewOn(t, server)
	id, d, b := stopped(t, server, db, "", plain, false, nil)
	if err := server.Restart(t.Context(), devpg.Fast); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, db, `update outbox_events set lease_until = clock_timestamp() - interval '1 second'`)
	if stats, err := newListener(t, db, d, nil).Once(context.Background(), 0); err != nil || stats.Processed != 1 || b.count() != 2 {
		t.Errorf("%+v, %v, sent %d times", stats, err, b.count())
	}
	if got := ledgerOf(t, db, id); got.State != "delivered" {
		t.Errorf("ledger: %+v", got)
	}
}
