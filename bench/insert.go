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
	label    string
	prepare  string // what is changed in the database first
	listener bool   // one runs meanwhile
	env      vars
}

const noTrigger = `alter table public.outbox_events disable trigger outbox_events_wake`

var insertings = []inserting{
	{"no trigger, listener polls every 500 ms", noTrigger, true, vars{"OUTBOX_POLL_INTERVAL_MS": "500"}},
	{ours + ", gated trigger", "", true, nil},
	{"a trigger that always notifies", `drop trigger outbox_events_wake on public.outbox_events;
		create trigger outbox_events_wake after insert on public.outbox_events for each statement execute function outbox.wake()`, true, nil},
	{ours + " not running, gated trigger", "", false, nil},
	{"no trigger, no listener", noTrigger, false, nil},
}

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
	const longer = 3
	seconds := pick(r, 4, 1)
	res.note("pgbench -M prepared, %d s a run, and %d s where no listener runs, since the difference that is looked for there is smaller than what two short runs of the same differ by; each client inserts one row of %d bytes a transaction into a table of its own run; the listener delivers to nowhere (discard) with its defaults. Each variant with a listener has it drain what is inserted, on the same machine.", seconds, longer*seconds, payload)
	label := func(v inserting, c int) string { return fmt.Sprintf("%s, %d clients", v.label, c) }
	for round := range r.Rounds {
		for _, c := range clients {
			for _, v := range inTurn(round, insertings) {
				lasts := seconds
				if !v.listener {
					lasts *= longer
				}
				one, err := r.inserts(ctx, v, c, lasts)
				if err != nil {
					return err
				}
				res.add(label(v, c), "inserts/s", one.tps)
				if v.listener {
					res.detail(label(v, c)+", not delivered yet at the end", "%", 100*one.left)
				}
				if one.notes >= 0 {
					res.detail(fmt.Sprintf("notifications with no listener alive, %d clients", c), "", float64(one.notes))
				}
			}
		}
	}
	ratio := func(a, b, c int) []float64 {
		return ratios(res.values(label(insertings[a], c)), res.values(label(insertings[b], c)))
	}
	for _, c := range clients {
		res.atLeast(fmt.Sprintf("gated / no trigger, listener draining, %d clients", c), "x", 0.85, ratio(1, 0, c))
		res.atLeast(fmt.Sprintf("gated / always notifying, %d clients", c), "x", 4, ratio(1, 2, c))
		res.atLeast(fmt.Sprintf("no listener: with the trigger / without, %d clients", c), "x", 0.95, ratio(3, 4, c))
		res.never(fmt.Sprintf("notifications with no listener alive, %d clients", c), res.values(fmt.Sprintf("notifications with no listener alive, %d clients", c)))
	}
	return nil
}

var tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// An insertRun is what one run of pgbench showed.
type insertRun struct {
	tps   float64
	notes int     // notifications, where our trigger is there and no listener is; else -1
	left  float64 // share of what was inserted that was not delivered yet
}

func (r *run) inserts(ctx context.Context, v inserting, clients, seconds int) (one insertRun, err error) {
	db, err := r.server.migrated(ctx)
	if err != nil {
		return one, err
	}
	defer db.drop()
	if v.prepare != "" {
		if _, err := db.pool.Exec(ctx, v.prepare, pgx.QueryExecModeSimpleProtocol); err != nil {
			return one, err
		}
	}
	if err := db.settle(ctx); err != nil {
		return one, err
	}
	if v.listener {
		d, err := r.launchAsleep(ctx, db, v.env)
		if err != nil {
			return one, err
		}
		defer d.stop()
	}
	one.notes = -1
	var counted func() (int, error)
	if !v.listener && v.prepare == "" {
		if counted, err = countNotifications(ctx, db); err != nil {
			return one, err
		}
	}

	script := filepath.Join(r.temp, "insert.sql")
	text := fmt.Sprintf("insert into public.outbox_events (type, payload) values ('discard.send', '{\"n\": 1, \"text\": \"%s\"}');\n", strings.Repeat("x", payload-30))
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return one, err
	}
	cmd := exec.CommandContext(ctx, r.server.program("pgbench"), "--no-vacuum", "--protocol=prepared",
		"--client="+strconv.Itoa(clients), "--jobs=2", "--time="+strconv.Itoa(seconds), "--file="+script, db.url)
	var stderr ending
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return one, fmt.Errorf("pgbench: %w: %s", err, lastLine([]byte(stderr.String())))
	}
	m := tpsLine.FindSubmatch(out)
	if m == nil {
		return one, fmt.Errorf("pgbench printed no tps: %s", out)
	}
	if one.tps, err = strconv.ParseFloat(string(m[1]), 64); err != nil {
		return one, err
	}
	one.left, err = value[float64](ctx, db, `select count(*) filter (where processed_at is null) / count(*)::float8 from public.outbox_events`)
	if err == nil && counted != nil {
		one.notes, err = counted()
	}
	return one, err
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
