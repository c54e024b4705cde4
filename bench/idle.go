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
	watched := pick(r, 30*time.Second, 7*time.Second)
	res.note("A sleeping listener with its defaults and OUTBOX_POLL_INTERVAL_MS=5000, for %s. It sweeps every sixth of OUTBOX_LEASE where that is less than the poll interval, so about every 3.3 s. Queries are statements by pg_stat_statements, without BEGIN, COMMIT and the settings that open each transaction, all of which go along in the same round trip.", watched)
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
	if err := d.pause(ctx, 3*time.Second); err != nil { // what the events left to do is done
		return err
	}
	db.pool.Reset() // sessions report what they did at the latest when they end
	if err := d.pause(ctx, time.Second); err != nil {
		return err
	}

	before, err := idleCounts(ctx, db, d, counted)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := d.pause(ctx, watched); err != nil {
		return err
	}
	after, err := idleCounts(ctx, db, d, counted)
	if err != nil {
		return err
	}
	took := time.Since(begun)
	sweeps := took.Seconds() * 3 / 10
	if !counted {
		res.note("Queries are not counted: the server does not have pg_stat_statements loaded, or the role may not create it.")
	} else {
		sweeps = after.sweeps - before.sweeps
		res.detail("sweeps", "", sweeps)
		res.detail("queries a sweep", "", (after.queries-before.queries)/sweeps)
		res.detail("statements a sweep, with BEGIN, COMMIT and settings", "", (after.statements-before.statements)/sweeps)
	}
	if sweeps < 1 {
		return fmt.Errorf("no sweep within %s", watched)
	}
	res.detail("share of one core", "%", 100*(after.cpu-before.cpu).Seconds()/took.Seconds())
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

// idleCount is what a listener has done so far.
type idleCount struct {
	statements float64
	queries    float64 // of them, what asks or changes something
	sweeps     float64
	cpu        time.Duration
}

// idleCounts reads them from another database, so that reading does not count.
// Where the statements are not counted, they and the sweeps are 0.
func idleCounts(ctx context.Context, db *database, d *daemon, counted bool) (c idleCount, err error) {
	observer, err := db.server.empty(ctx)
	if err != nil {
		return c, err
	}
	defer observer.drop()
	if c.cpu, err = d.cpu(); err != nil || !counted {
		return c, err
	}
	if err := observer.exec(ctx, "create extension pg_stat_statements"); err != nil {
		return c, err
	}
	err = observer.pool.QueryRow(ctx, `
		select coalesce(sum(calls), 0)::float8,
			coalesce(sum(calls) filter (where query !~* '^(begin|commit|select set_config)'), 0)::float8,
			coalesce(sum(calls) filter (where query like '%order by d.due_at%limit%'), 0)::float8
		from pg_stat_statements where dbid = (select oid from pg_database where datname = $1)`, db.name).Scan(&c.statements, &c.queries, &c.sweeps)
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
