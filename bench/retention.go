package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// retention has a listener drain a backlog while it deletes what is over its
// retention, beside one that keeps everything.
//
// A listener begins to delete some seconds after its start, and deletes from the
// ledger before it does from the events. So the backlog comes only when deleting
// has begun, and a third variant, which keeps the ledger, deletes events from the
// beginning.
func retention(ctx context.Context, r *run, res *result) error {
	t := retained{past: r.size(300_000), backlog: r.size(200_000)}
	res.note("%s events that were processed two hours ago, with as many deliveries in the ledger. A listener, batch 1000, sleeps until it has begun to delete, or for 4 s where it keeps everything; then %s events of %d bytes come in one transaction. Rate: from its COMMIT to when another session sees each of them processed, by the server's clock.", number(float64(t.past)), number(float64(t.backlog)), payload)
	res.note("The listener deletes from the ledger first, then from the events; how many rows of each it deletes from that COMMIT on is below. The target is our own, and none of those that were set for us.")
	keeps, deletes, events := ours+", keeps everything", ours+", deletes both after 1h", ours+", deletes events alone after 1h"
	variants := []variant{
		{keeps, func() (float64, error) { return r.drainRetained(ctx, res, t, keeps, "off", "off") }},
		{deletes, func() (float64, error) { return r.drainRetained(ctx, res, t, deletes, "1h", "1h") }},
		{events, func() (float64, error) { return r.drainRetained(ctx, res, t, events, "1h", "off") }},
	}
	if err := r.compare(res, "events/s", r.Rounds, variants); err != nil {
		return err
	}
	res.atLeast("drain rate, deleting from the ledger / keeping everything (our own figure)", "x", 0.9, ratios(res.values(deletes), res.values(keeps)))
	res.atLeast("drain rate, deleting events / keeping everything (our own figure)", "x", 0.9, ratios(res.values(events), res.values(keeps)))
	return nil
}

// retained says how much there is in the scenario.
type retained struct {
	past    int // events that are too old, and deliveries of them
	backlog int // events to drain
}

// drainRetained returns the events a second that a listener with these values of
// OUTBOX_RETAIN_PROCESSED and OUTBOX_RETAIN_LEDGER drains.
func (r *run) drainRetained(ctx context.Context, res *result, t retained, label, processed, ledger string) (float64, error) {
	db, err := r.server.migrated(ctx)
	if err != nil {
		return 0, err
	}
	defer db.drop()
	if err := db.fillPast(ctx, t.past, payload, 2*time.Hour); err != nil {
		return 0, err
	}
	if err := db.settle(ctx); err != nil {
		return 0, err
	}
	env := batch(1000)
	env["OUTBOX_RETAIN_PROCESSED"], env["OUTBOX_RETAIN_LEDGER"] = processed, ledger
	d, err := r.launchAsleep(ctx, db, env)
	if err != nil {
		return 0, err
	}
	defer d.stop()
	if processed == "off" && ledger == "off" {
		err = d.pause(ctx, pick(r, 4*time.Second, time.Second))
	} else {
		err = db.deleting(ctx, d, t.past)
	}
	if err != nil {
		return 0, err
	}

	if err := db.fill(ctx, t.backlog, payload); err != nil {
		return 0, err
	}
	begun, err := value[time.Time](ctx, db, `select clock_timestamp()`)
	if err != nil {
		return 0, err
	}
	before, err := db.deleted(ctx, t.past)
	if err != nil {
		return 0, err
	}
	last, err := db.drained(ctx, d)
	if err != nil {
		return 0, err
	}
	after, err := db.deleted(ctx, t.past)
	if err != nil {
		return 0, err
	}
	gone := deletedRows{after.deliveries - before.deliveries, after.events - before.events}
	if processed != "off" || ledger != "off" {
		res.detail("deliveries deleted meanwhile, "+label, "", float64(gone.deliveries))
		res.detail("events deleted meanwhile, "+label, "", float64(gone.events))
		if gone == (deletedRows{}) && !r.Quick { // a small one may be over before
			return 0, errors.New("nothing was deleted while the backlog was drained: that is no comparison")
		}
	} else if after != (deletedRows{}) {
		return 0, fmt.Errorf("a listener that keeps everything deleted %d deliveries and %d events", after.deliveries, after.events)
	}
	delivered, err := value[int](ctx, db, `select count(*) from outbox.deliveries where state = 'delivered' and event_seq > $1`, t.past)
	if err == nil && delivered != t.backlog {
		err = fmt.Errorf("of %d events %d were delivered", t.backlog, delivered)
	}
	return float64(t.backlog) / last.Sub(begun).Seconds(), err
}

// deletedRows is how many rows of what was past are gone.
type deletedRows struct{ deliveries, events int64 }

// deleted asks for the first that is left of each: rows go in the order of their
// numbers, which an id in the ledger begins with.
func (db *database) deleted(ctx context.Context, past int) (rows deletedRows, err error) {
	err = db.pool.QueryRow(ctx, `
		select coalesce((select ('x' || encode(substr(uuid_send(id), 1, 6), 'hex'))::bit(48)::bigint - 1
				from outbox.deliveries order by id limit 1), $1::bigint),
			coalesce((select seq - 1 from public.outbox_events order by seq limit 1), $1::bigint)`, past).Scan(&rows.deliveries, &rows.events)
	return rows, err
}

// deleting waits until rows are deleted.
func (db *database) deleting(ctx context.Context, d *daemon, past int) error {
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		rows, err := db.deleted(limited, past)
		if err != nil || rows != (deletedRows{}) {
			return err
		}
		if err := d.pause(limited, 20*time.Millisecond); err != nil {
			return fmt.Errorf("waiting for the listener to delete what is too old: %w", err)
		}
	}
}
