package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// wal counts the bytes of write-ahead log from a filled table to a drained
// one. Pages are written to after the checkpoint and before the count, so that
// no full-page images are among them.
func wal(ctx context.Context, r *run, res *result) error {
	n := r.size(100_000)
	res.note("%s events of %d bytes. CHECKPOINT, then the fill, then the drain: every page that was there has been written to since the checkpoint, so that full-page images do not count. Autovacuum is off for the tables. From pg_current_wal_insert_lsn() after the fill to after the drain, when the listener is asleep.", number(float64(n)), payload)
	sizes := []int{1000, 10}
	label := func(size int) string { return fmt.Sprintf("%s, bytes of WAL an event, batch %d", ours, size) }
	for round := range r.Rounds {
		for _, size := range inTurn(round, sizes) {
			bytes, images, err := r.walOf(ctx, n, size)
			if err != nil {
				return err
			}
			res.add(label(size), "B", bytes)
			if images >= 0 {
				res.detail(fmt.Sprintf("full-page images an event, batch %d", size), "", images)
			}
		}
	}
	for _, size := range sizes {
		res.atMost(fmt.Sprintf("WAL for an event, batch %d", size), "B", 650, res.values(label(size)))
	}
	return nil
}

// walCannot says why the log of a server that was given cannot be counted.
func walCannot(ctx context.Context, r *run) (string, error) {
	if r.server.own != nil {
		return "", nil
	}
	if r.server.noCheckpoint {
		return "the role may not CHECKPOINT: full-page images would be counted", nil
	}
	err := r.server.exec(ctx, `select pg_current_wal_insert_lsn()`)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return "the server does not tell the position of its log: " + pg.Message, nil
	}
	return "", err
}

// walOf returns the bytes and the full-page images for an event; -1 images
// where the server does not count them.
func (r *run) walOf(ctx context.Context, n, size int) (bytes, images float64, err error) {
	db, err := r.server.migrated(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer db.drop()
	for _, table := range []string{"public.outbox_events", "outbox.deliveries", "outbox.attempts"} {
		if err := db.exec(ctx, "alter table "+table+" set (autovacuum_enabled = off)"); err != nil {
			return 0, 0, err
		}
	}
	if err := db.settle(ctx); err != nil {
		return 0, 0, err
	}
	if err := db.fill(ctx, n, payload); err != nil {
		return 0, 0, err
	}
	lsn, before, err := walPosition(ctx, db)
	if err != nil {
		return 0, 0, err
	}
	d, err := r.launch(db, batch(size))
	if err != nil {
		return 0, 0, err
	}
	defer d.stop()
	if _, err = db.drained(ctx, d); err == nil {
		err = db.asleep(ctx, d)
	}
	if err == nil {
		err = db.allDelivered(ctx, n)
	}
	if err != nil {
		return 0, 0, err
	}
	end, after, err := walPosition(ctx, db)
	if before < 0 {
		return (end - lsn) / float64(n), -1, err
	}
	return (end - lsn) / float64(n), (after - before) / float64(n), err
}

// walPosition returns how many bytes of log there are, and how many full-page
// images; -1 images before Postgres 14.
func walPosition(ctx context.Context, db *database) (lsn, images float64, err error) {
	lsn, err = value[float64](ctx, db, `select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8`)
	if err != nil {
		return 0, 0, err
	}
	if there, err := value[bool](ctx, db, `select to_regclass('pg_catalog.pg_stat_wal') is not null`); err != nil || !there {
		return lsn, -1, err
	}
	images, err = value[float64](ctx, db, `select wal_fpi::float8 from pg_catalog.pg_stat_wal`)
	return lsn, images, err
}
