package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// inserting is one way for the application to insert.
type inserting struct {
	label   string
	prepare string // what is changed in the database first
	env     vars   // of the listener that runs meanwhile
}

const noTrigger = `alter table public.outbox_events disable trigger outbox_events_wake`

// drained are those beside a listener.
var drained = []inserting{
	{"no trigger, listener polls every 500 ms", noTrigger, vars{"OUTBOX_POLL_INTERVAL_MS": "500"}},
	{ours + ", gated trigger", "", nil},
	{"a trigger that always notifies", `drop trigger outbox_events_wake on public.outbox_events;
		create trigger outbox_events_wake after insert on public.outbox_events for each statement execute function outbox.wake()`, nil},
}

// Those beside none.
var (
	unheard = inserting{ours + " not running, gated trigger", "", nil}
	alone   = inserting{"no trigger, no listener", noTrigger, nil}
)

// insertClients are how many insert at once.
var insertClients = []int{32, 64}

// insertCannot says what pgbench lacks.
func insertCannot(ctx context.Context, r *run) (string, error) {
	if r.server.program("pgbench") == "" {
		return "pgbench is neither beside the server nor in PATH; it comes with Postgres", nil
	}
	// The listener has up to nine connections, the benchmark a few.
	needed := slices.Max(insertClients) + 20
	free, err := r.server.freeConnections(ctx)
	if err != nil || free >= needed {
		return "", err
	}
	return fmt.Sprintf("it needs %d connections, and the server has %d left (max_connections)", needed, free), nil
}

// insertCost measures the inserts of many clients, one row a transaction, with
// and without our trigger.
func insertCost(ctx context.Context, r *run, res *result) error {
	clients := insertClients
	seconds, turn, turns := pick(r, 4, 1), pick(r, 3, 1), pick(r, 6, 2)
	res.note("pgbench -M prepared, %d s a run; each client inserts one row of %d bytes a transaction into a table of its own run; the listener delivers to nowhere (discard) with its defaults. Each variant with a listener has it drain what is inserted, on the same machine. Where none runs the difference that is looked for is smaller than what two runs of the same differ by: there the two variants have a database each, and take turns of %d s, %d each in a round, of which the sums are compared. What connecting takes counts in the time of a turn and not in its rate.", seconds, payload, turn, turns)
	label := func(v inserting, c int) string { return fmt.Sprintf("%s, %d clients", v.label, c) }
	for round := range r.Rounds {
		for _, c := range clients {
			for _, v := range inTurn(round, drained) {
				tps, left, err := r.insertsDrained(ctx, v, c, seconds)
				if err != nil {
					return err
				}
				res.add(label(v, c), "inserts/s", tps)
				res.detail(label(v, c)+", not delivered yet at the end", "%", 100*left)
			}
			with, without, notes, err := r.insertsAlone(ctx, round, c, turn, turns)
			if err != nil {
				return err
			}
			res.add(label(unheard, c), "inserts/s", with)
			res.add(label(alone, c), "inserts/s", without)
			res.detail(fmt.Sprintf("notifications with no listener alive, %d clients", c), "", float64(notes))
		}
	}
	ratio := func(a, b inserting, c int) []float64 { return ratios(res.values(label(a, c)), res.values(label(b, c))) }
	for _, c := range clients {
		res.atLeast(fmt.Sprintf("gated / no trigger, listener draining, %d clients", c), "x", 0.85, ratio(drained[1], drained[0], c))
		res.atLeast(fmt.Sprintf("gated / always notifying, %d clients", c), "x", 4, ratio(drained[1], drained[2], c))
		res.atLeast(fmt.Sprintf("no listener: with the trigger / without, %d clients", c), "x", 0.95, ratio(unheard, alone, c))
		res.never(fmt.Sprintf("notifications with no listener alive, %d clients", c), res.values(fmt.Sprintf("notifications with no listener alive, %d clients", c)))
	}
	return nil
}

var tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// noneLine is what pgbench says, in place of a rate, of a run in which no transaction ended:
// all of it went by while its clients connected, say.
var noneLine = regexp.MustCompile(`(?m)^number of transactions actually processed: 0$`)

// insertsDrained returns how many inserts a second clients made beside a listener that
// drains them, and which share was not delivered yet when they ended.
func (r *run) insertsDrained(ctx context.Context, v inserting, clients, seconds int) (tps, left float64, err error) {
	db, err := r.insertedInto(ctx, v)
	if err != nil {
		return 0, 0, err
	}
	defer db.drop()
	d, err := r.launchAsleep(ctx, db, v.env)
	if err != nil {
		return 0, 0, err
	}
	defer d.stop()
	if tps, err = r.pgbench(ctx, db, clients, seconds); err != nil {
		return 0, 0, err
	}
	left, err = value[float64](ctx, db, `select coalesce(count(*) filter (where processed_at is null) / nullif(count(*), 0)::float8, 0) from public.outbox_events`)
	return tps, left, err
}

// insertsAlone returns how many inserts a second clients made with our trigger and
// without it, and how many notifications were sent, while no listener is alive: in so
// many turns each, of so many seconds.
func (r *run) insertsAlone(ctx context.Context, round, clients, seconds, turns int) (with, without float64, notes int, err error) {
	ways := []inserting{unheard, alone}
	dbs, sums := map[string]*database{}, map[string]float64{}
	for _, v := range ways {
		if dbs[v.label], err = r.insertedInto(ctx, v); err != nil {
			return 0, 0, 0, err
		}
		defer dbs[v.label].drop()
	}
	counted, err := countNotifications(ctx, dbs[unheard.label])
	if err != nil {
		return 0, 0, 0, err
	}
	for turn := range turns {
		for _, v := range inTurn(round+turn, ways) {
			tps, err := r.pgbench(ctx, dbs[v.label], clients, seconds)
			if err != nil {
				return 0, 0, 0, err
			}
			sums[v.label] += tps / float64(turns)
		}
	}
	notes, err = counted()
	return sums[unheard.label], sums[alone.label], notes, err
}

// insertedInto makes a database to be inserted into in the way of v.
func (r *run) insertedInto(ctx context.Context, v inserting) (*database, error) {
	db, err := r.server.migrated(ctx)
	if err != nil {
		return nil, err
	}
	if v.prepare != "" {
		_, err = db.pool.Exec(ctx, v.prepare, pgx.QueryExecModeSimpleProtocol)
	}
	if err == nil {
		err = db.settle(ctx)
	}
	if err != nil {
		db.drop()
		return nil, err
	}
	return db, nil
}

// pgbench returns how many inserts a second it made.
func (r *run) pgbench(ctx context.Context, db *database, clients, seconds int) (float64, error) {
	script := filepath.Join(r.temp, "insert.sql")
	text := fmt.Sprintf("insert into public.outbox_events (type, payload) values ('discard.send', '{\"n\": 1, \"text\": \"%s\"}');\n", strings.Repeat("x", payload-30))
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, r.server.program("pgbench"), "--no-vacuum", "--protocol=prepared",
		"--client="+strconv.Itoa(clients), "--jobs=2", "--time="+strconv.Itoa(seconds), "--file="+script, db.url)
	var stderr ending
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, lastLine([]byte(stderr.String())))
	}
	m := tpsLine.FindSubmatch(out)
	switch {
	case m != nil:
	case noneLine.Match(out):
		return 0, nil
	default:
		return 0, fmt.Errorf("pgbench printed no tps: %s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// countNotifications listens where the listener would, and makes sure that it
// hears what the trigger sends. The function that it returns says how many
// notifications came since, and ends it.
func countNotifications(ctx context.Context, db *database) (func() (int, error), error) {
	conn, err := pgx.Connect(ctx, db.url)
	if err != nil {
		return nil, err
	}
	if _, err = conn.Exec(ctx, "listen outbox_events"); err == nil {
		err = hearsTheTrigger(ctx, db, conn)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return func() (int, error) {
		defer conn.Close(context.WithoutCancel(ctx))
		for n := 0; ; n++ {
			wait, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			_, err := conn.WaitForNotification(wait)
			cancel()
			switch {
			case ctx.Err() != nil:
				return 0, ctx.Err()
			case errors.Is(err, context.DeadlineExceeded):
				return n, nil
			case err != nil:
				return 0, err
			}
		}
	}, nil
}

// hearsTheTrigger inserts one event as if a listener slept, and fails unless
// conn is notified of it: without that a count of none would mean nothing.
func hearsTheTrigger(ctx context.Context, db *database, conn *pgx.Conn) error {
	return withConn(ctx, db.url, func(sleeper *pgx.Conn) error {
		if _, err := sleeper.Exec(ctx, "select pg_advisory_lock($1)", gate); err != nil {
			return err
		}
		err := db.exec(ctx, `insert into public.outbox_events (type, payload) values ('discard.send', '{}')`)
		if err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if _, err := conn.WaitForNotification(wait); err != nil {
			return fmt.Errorf("the notification of an insert with the gate shut was not heard: %w", err)
		}
		_, err = sleeper.Exec(ctx, "select pg_advisory_unlock($1)", gate)
		return err
	})
}
