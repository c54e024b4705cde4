package bench

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// snapshot has another session hold an old snapshot while events pass, which
// keeps vacuum from removing what they leave behind.
func snapshot(ctx context.Context, r *run, res *result) error {
	n := r.size(500_000)
	res.note("%s events pass, %d at a time, batch 100, while another session holds a REPEATABLE READ snapshot from before the first.", number(float64(n)), feedChunk)
	res.note("%s", claimMethod(r.server))
	for range r.Rounds {
		err := r.server.atRest(ctx, func(db *database) error {
			return withConn(ctx, db.url, func(old *pgx.Conn) error { return r.passBy(ctx, res, n, db, old) })
		})
		if err != nil {
			return err
		}
	}
	res.atMost("claim latency, last tenth / first (2–12 %), p90", "x", 1.5, res.drift("p90"))
	res.atMost("claim latency, last tenth / first (2–12 %), p99", "x", 1.5, res.drift("p99"))
	return nil
}

// passBy feeds n events while the session old has its snapshot.
func (r *run) passBy(ctx context.Context, res *result, n int, db *database, old *pgx.Conn) error {
	tx, err := old.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	var seen int
	if err := tx.QueryRow(ctx, `select count(*) from public.outbox_events`).Scan(&seen); err != nil {
		return err
	}
	w, err := watchClaims(ctx, db)
	if err != nil {
		return err
	}
	defer w.stop()
	d, err := r.launchAsleep(ctx, db, batch(100))
	if err != nil {
		return err
	}
	defer d.stop()
	f, err := db.feed(ctx, d, n, 0)
	if err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, `select count(*) from public.outbox_events`).Scan(&seen); err != nil || seen != 0 {
		return fmt.Errorf("the snapshot saw %d events: %w", seen, err)
	}
	if err := res.claimDrift(ctx, w, f); err != nil {
		return err
	}
	res.detail("rate", "events/s", float64(n)/f.ended.Sub(f.begun).Seconds())
	return nil
}
