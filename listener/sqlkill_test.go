package listener_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/sink"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// killedURL in the environment makes the test binary run as a listener on that
// database, until it is killed or its standard input ends.
const killedURL = "LISTENER_TEST_KILLED"

// killedName is the application_name of all connections of such listeners.
const killedName = "killed"

// runKilled is the program that TestSQLStepsUnderKill kills. Each event becomes
// an sql step, and one that follows it.
func runKilled(url string) (code int) {
	d := dispatch.New()
	d.Register(dispatch.ChannelDiscard, sink.NewDiscard(), dispatch.Policy{})
	d.Use(router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
		id := ev.ID.String()
		content, err := json.Marshal(dispatch.SQL{Statement: `select book($1)`, Args: []*string{&id}})
		if err != nil {
			return nil, err
		}
		return []dispatch.Message{
			{Route: "r", Step: "book", Channel: dispatch.ChannelSQL, Content: content, Terms: &dispatch.Terms{Freeze: true}},
			{Route: "r", Step: "tell", Channel: dispatch.ChannelDiscard,
				Terms: &dispatch.Terms{Freeze: true, After: []string{"book"}, Scope: json.RawMessage(`{}`)}},
		}, nil
	}})
	return runToBeKilled(url, d, nil)
}

// runToBeKilled runs a listener with short leases until it is killed or its
// standard input ends.
func runToBeKilled(url string, d *dispatch.Dispatcher, change func(*listener.Config)) (code int) {
	go func() { // or it would outlive a test binary that is killed itself
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	pc, err := pgxpool.ParseConfig(url)
	if err != nil {
		return fail(err)
	}
	pc.MaxConns = 8
	pc.ConnConfig.RuntimeParams["application_name"] = killedName
	pool, err := pgxpool.NewWithConfig(context.Background(), pc)
	if err != nil {
		return fail(err)
	}
	cfg := listener.Config{
		Pool: pool, Dispatcher: d, Lease: time.Second, PollInterval: 200 * time.Millisecond, Workers: 4,
		MaxCrashes: -1, // they are killed by chance
		Log:        slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if change != nil {
		change(&cfg)
	}
	l, err := listener.New(cfg)
	if err == nil {
		err = l.Run(context.Background())
	}
	return fail(err)
}

// victim is a process of runKilled.
type victim struct {
	cmd    *exec.Cmd
	stderr words
	ended  chan struct{} // closed once it has ended
}

// startVictim starts it with more in its environment.
func startVictim(t testing.TB, db *pgtest.DB, more ...string) *victim {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{cmd: exec.Command(self), ended: make(chan struct{})}
	v.cmd.Env = append(append(os.Environ(), killedURL+"="+db.URL), more...)
	v.cmd.Stderr = &v.stderr
	if _, err := v.cmd.StdinPipe(); err != nil { // ends with us
		t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(v.ended)
		_ = v.cmd.Wait() // it was killed
	}()
	t.Cleanup(v.kill)
	return v
}

// words are what a process writes.
type words struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(b)
}

// String returns all of them.
func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// kill ends it by SIGKILL, and returns when it has ended.
func (v *victim) kill() {
	_ = v.cmd.Process.Kill() // or it has ended
	<-v.ended
}

// numberOf is what the environment has for name, for the recorded runs of
// docs/evidence, or otherwise what the tests have.
func numberOf(t testing.TB, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s=%s: %v", name, s, err)
	}
	return n
}

// TestSQLStepsUnderKill: in each run one listener, or two at once, are killed
// at a random moment, mostly while statements of sql steps are under way. Each
// statement is committed exactly once in the end, with its record, and what
// follows it is released.
//
// How often a kill fell between the beginning of a statement and its commit is
// counted by a sequence, which keeps its numbers when the transaction that drew
// them is rolled back.
func TestSQLStepsUnderKill(t *testing.T) {
	t.Parallel()
	const perRun = 12 // events
	runs := numberOf(t, "OUTBOX_TEST_SQL_RUNS", 16)
	seed := numberOf(t, "OUTBOX_TEST_SEED", int(time.Now().UnixNano()%1_000_000))
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }

	db := pgtest.New(t)
	pgtest.Exec(t, db, `create sequence begun`)
	pgtest.Exec(t, db, `create table booked (event uuid)`)
	pgtest.Exec(t, db, `create table counter (n integer)`)
	pgtest.Exec(t, db, `insert into counter values (0)`)
	pgtest.Exec(t, db, `create function book(event uuid) returns void language plpgsql as $$
		begin
			perform nextval('begun');
			insert into booked values (event);
			perform pg_sleep(random() * 0.04);
			update counter set n = n + 1;
			perform pg_sleep(random() * 0.01);
		end $$`)
	begunSoFar := func() int {
		return pgtest.QueryVal[int](t, db, `select case when is_called then last_value else 0 end from begun`)
	}

	begunAt := time.Now()
	kills, hits, cut := 0, 0, 0
	left := map[uuid.UUID]bool{}
	for run := range runs {
		pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'booking', '{}' from generate_series(1, $1)`, perRun)
		before := begunSoFar()
		victims := []*victim{startVictim(t, db)}
		if run%4 == 3 {
			victims = append(victims, startVictim(t, db))
		}
		if run%10 == 5 {
			time.Sleep(upTo(400 * time.Millisecond)) // any moment, its start included
		} else {
			pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
				return begunSoFar() > before, "no statement was begun; the listener says " + victims[0].stderr.String()
			})
			time.Sleep(upTo(120 * time.Millisecond))
		}
		for _, v := range victims {
			v.kill()
			kills++
			if len(victims) > 1 {
				time.Sleep(upTo(200 * time.Millisecond)) // the other one goes on
			}
		}
		// The server still works on what it was told.
		pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
			n := pgtest.QueryVal[int](t, db, `select count(*) from pg_stat_activity where datname = current_database() and application_name = $1`, killedName)
			return n == 0, fmt.Sprintf("%d connections of dead processes", n)
		})
		now := begunSoFar() - pgtest.QueryVal[int](t, db, `select count(*) from booked`)
		if now > cut {
			hits++
		}
		cut = now
		for _, id := range pgtest.QueryVals[uuid.UUID](t, db, `select id from outbox.deliveries where channel = 'sql' and finished_at is null`) {
			left[id] = true
		}
	}

	last := startVictim(t, db)
	events := runs * perRun
	pgtest.Drains(t, 20*time.Second, fmt.Sprintf("events of seed %d are not processed", seed), func() int {
		return pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where processed_at is null`)
	})
	last.kill() // whether it has read the answer or not, all is on record
	if n := pgtest.QueryVal[int](t, db, `select count(*) from booked`); n != events {
		t.Errorf("seed %d: %d rows, want %d", seed, n, events)
	}
	if bad := pgtest.QueryVals[string](t, db, `select e.id || ': ' || count(b.event) from outbox_events as e left join booked as b on b.event = e.id
		group by e.id having count(b.event) <> 1`); len(bad) > 0 {
		t.Errorf("seed %d: rows of events, not one each: %v", seed, bad)
	}
	if n := pgtest.QueryVal[int](t, db, `select n from counter`); n != events {
		t.Errorf("seed %d: counted to %d, want %d", seed, n, events)
	}
	if bad := pgtest.QueryVals[string](t, db, `select e.id || ': ' || coalesce(string_agg(d.step || ' ' || d.state, ', ' order by d.step), 'nothing')
		from outbox_events as e left join outbox.deliveries as d on d.event_id = e.id
		group by e.id having coalesce(string_agg(d.step || ' ' || d.state, ', ' order by d.step), '') <> 'book delivered, tell delivered'`); len(bad) > 0 {
		t.Errorf("seed %d: deliveries: %v", seed, bad)
	}
	if hits < runs/4 {
		t.Errorf("seed %d: only %d of %d runs were cut off within a transaction", seed, hits, runs)
	}
	t.Logf("seed %d: %d events, %d runs, %d kills; in %d runs within a transaction, which cut off %d statements; %d sql steps were taken over from the dead; %s",
		seed, events, runs, kills, hits, cut, len(left), time.Since(begunAt).Round(100*time.Millisecond))
}
