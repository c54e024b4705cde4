package bench

import (
	"context"
	"fmt"
	"time"
)

// idle watches a listener that has nothing to do. The server is one of its
// own, which counts statements; a server that was given does where it has
// pg_stat_statements.
func idle(ctx context.Context, r *run, res *result) error {
	const windows = 3
	watched := pick(r, time.Minute, 7*time.Second)
	res.note("A sleeping listener with its defaults and OUTBOX_POLL_INTERVAL_MS=5000, watched %d times for %s, one after the other. It sweeps every sixth of OUTBOX_LEASE where that is less than the poll interval, so about every 3.3 s. Processor time: of all its threads, in nanoseconds by the scheduler (/proc/PID/task/*/schedstat).", windows, watched)
	server := r.server
	if r.Database == "" {
		settings := map[string]string{"autovacuum": "off"}
		if there, err := r.server.has(ctx, "pg_stat_statements"); err != nil {
			return err
		} else if there {
			settings["shared_preload_libraries"] = "pg_stat_statements"
		}
		own, err := openServer(ctx, "", settings)
		if err != nil {
			return err
		}
		defer own.close()
		server = own
	}
	db, err := server.filled(ctx, 100, payload)
	if err != nil {
		return err
	}
	defer db.drop()
	counted := db.exec(ctx, "create extension if not exists pg_stat_statements") == nil && db.exec(ctx, "select from pg_stat_statements limit 1") == nil
	d, err := r.launchAsleep(ctx, db, nil)
	if err != nil {
		return err
	}
	defer d.stop()
	if _, err := db.drained(ctx, d); err != nil {
		return err
	}
	// What the events left to do is done, and sessions have reported it: the
	// server has them wait for up to 10 s.
	if err := d.pause(ctx, pick(r, 12*time.Second, 3*time.Second)); err != nil {
		return err
	}
	db.pool.Reset() // sessions report what they did at the latest when they end
	if err := d.pause(ctx, time.Second); err != nil {
		return err
	}

	if counted {
		res.note("Queries a sweep: the calls that pg_stat_statements counts, without the settings. Each transaction is a BEGIN, its settings, one query and a COMMIT, in one round trip; a BEGIN or COMMIT that runs as a prepared statement is counted by pg_stat_statements the first time only, so that there are two more statements for each settings than it counts.")
		res.note("What the server takes for transactions of the database (xact_commit of pg_stat_database, which sessions may report some seconds late) are also the empty query by which the pool asks whether a connection that has rested is alive, and whatever each parallel worker does that the server starts.")
	} else {
		res.note("Queries are not counted: the server does not have pg_stat_statements loaded, or the role may not create it.")
	}
	for range windows {
		if err := watchIdle(ctx, res, db, d, watched, counted); err != nil {
			return err
		}
	}
	rss, err := d.memory("VmRSS")
	if err != nil {
		return err
	}
	res.detail("resident memory", "MB", rss*1.048576)
	res.atMost("queries a sweep", "", 2, res.values("queries a sweep"))
	res.atMost("computing, of one core", "%", 0.2, res.values("share of one core"))
	res.atMost("resident memory", "MB", 40, res.values("resident memory"))
	return nil
}

// watchIdle adds what the listener does within that time.
func watchIdle(ctx context.Context, res *result, db *database, d *daemon, watched time.Duration, counted bool) error {
	before, err := idleCounts(ctx, db, d, counted)
	if err != nil {
		return err
	}
	if err := d.pause(ctx, watched); err != nil {
		return err
	}
	after, err := idleCounts(ctx, db, d, counted)
	if err != nil {
		return err
	}
	res.detail("share of one core", "%", 100*(after.cpu-before.cpu).Seconds()/after.at.Sub(before.at).Seconds())
	if !counted {
		return nil
	}
	sweeps := after.sweeps - before.sweeps
	if sweeps < 1 {
		return fmt.Errorf("no sweep within %s", watched)
	}
	queries, settings := (after.queries-before.queries)/sweeps, (after.settings-before.settings)/sweeps
	res.detail("sweeps", "", sweeps)
	res.detail("queries a sweep", "", queries)
	res.detail("statements a sweep that pg_stat_statements counts: queries and settings", "", queries+settings)
	res.detail("statements a sweep with BEGIN and COMMIT, two more for each settings", "", queries+3*settings)
	res.detail("transactions a sweep as the server counts them", "", (after.transactions-before.transactions)/sweeps)
	return nil
}

// idleCount is what a listener has done so far.
type idleCount struct {
	at           time.Time // when cpu was read
	cpu          time.Duration
	queries      float64 // what asks or changes something
	settings     float64 // what opens a transaction beside BEGIN
	transactions float64 // as the server counts them
	sweeps       float64
}

// idleCounts reads them from another database, so that reading does not count.
// Where the statements are not counted, all but the time is 0.
func idleCounts(ctx context.Context, db *database, d *daemon, counted bool) (c idleCount, err error) {
	observer, err := db.server.empty(ctx)
	if err != nil {
		return c, err
	}
	defer observer.drop()
	c.at = time.Now()
	if c.cpu, err = d.cpu(); err != nil || !counted {
		return c, err
	}
	if err := observer.exec(ctx, "create extension pg_stat_statements"); err != nil {
		return c, err
	}
	err = observer.pool.QueryRow(ctx, `
		select coalesce(sum(calls) filter (where query !~* '^(begin|commit|select set_config)'), 0)::float8,
			coalesce(sum(calls) filter (where query ~* '^select set_config'), 0)::float8,
			coalesce(sum(calls) filter (where query like '%order by d.due_at%limit%'), 0)::float8,
			(select xact_commit::float8 from pg_stat_database where datname = $1)
		from pg_stat_statements where dbid = (select oid from pg_database where datname = $1)`, db.name).
		Scan(&c.queries, &c.settings, &c.sweeps, &c.transactions)
	return c, err
}

// has reports whether the server offers an extension.
func (s *server) has(ctx context.Context, extension string) (bool, error) {
	db, err := s.empty(ctx)
	if err != nil {
		return false, err
	}
	defer db.drop()
	return value[bool](ctx, db, `select exists (select from pg_available_extensions where name = $1)`, extension)
}
