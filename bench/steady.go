package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// steady inserts events one by one at an even pace, beside a past of as many as a quarter
// of an hour of them, and says what each costs: log, room, processor. It is what the sizing
// of docs/performance.md is made of, and has no targets.
//
// A random id (version 4) falls upon any page of its index, and the first change of a
// page after a checkpoint puts all of it into the log; an id in order (version 7) does
// not. How often that is depends on how many pages there are, and on the time between checkpoints.
func steady(ctx context.Context, r *run, res *result) error {
	const rate = 1000
	past, count := r.size(1_000_000), rate*pick(r, 30, 3)
	res.note("%s events that were processed two hours ago, with their deliveries, vacuumed and checkpointed. Then %s events of %d bytes that go nowhere (discard), one in a transaction, %d a second; a listener with its defaults. From the first insert to when all are processed.", number(float64(past)), number(float64(count)), payload, rate)
	res.note("Bytes of log: all that is written meanwhile, by pg_current_wal_insert_lsn(): the inserts, claims, records and commits. Bytes of tables: with their indexes, how much larger they are afterwards. Idle: of the whole machine, by /proc/stat.")
	variants := []steadily{
		{label: "random ids"},
		{label: "random ids, without full-page images", imageless: true},
		{label: "ids in order", inOrder: true},
		{label: "random ids, deleting deliveries after 1h", env: vars{"OUTBOX_RETAIN_LEDGER": "1h"}},
		{label: "random ids, deleting events after 1h", env: vars{"OUTBOX_RETAIN_PROCESSED": "1h", "OUTBOX_RETAIN_LEDGER": "off"}},
	}
	if r.Quick { // it shows that it runs
		variants = slices.Concat(variants[1:2], variants[4:])
	}
	for round := range min(r.Rounds, 2) {
		for _, v := range inTurn(round, variants) {
			if v.imageless && r.server.own == nil {
				continue // the setting is somebody else's
			}
			if err := r.steadily(ctx, res, v, past, rate, count); err != nil {
				return fmt.Errorf("%s: %w", v.label, err)
			}
		}
	}
	return nil
}

// steadily is a way to insert at a pace.
type steadily struct {
	label     string
	inOrder   bool // ids by time, as the application would make them
	imageless bool // full_page_writes=off
	env       vars // of the listener
}

func (r *run) steadily(ctx context.Context, res *result, v steadily, past, rate, count int) error {
	if v.imageless {
		if err := r.server.configure(ctx, "full_page_writes", "off"); err != nil {
			return err
		}
		defer r.server.configure(context.WithoutCancel(ctx), "full_page_writes", "on")
	}
	db, err := r.server.migrated(ctx)
	if err != nil {
		return err
	}
	defer db.drop()
	if err := db.fillPast(ctx, past, payload, 2*time.Hour); err != nil {
		return err
	}
	if err := db.settle(ctx); err != nil {
		return err
	}
	d, err := r.launchAsleep(ctx, db, v.env)
	if err != nil {
		return err
	}
	defer d.stop()
	if v.env != nil {
		if err := db.deleting(ctx, d, past); err != nil {
			return err
		}
	}

	before, err := measureSteady(ctx, db, d, past)
	if err != nil {
		return err
	}
	ticks, told := processors()
	err = db.paced(ctx, rate, count, func(conn *pgx.Conn, n int) error {
		id := uuid.New()
		if v.inOrder {
			var err error
			if id, err = uuid.NewV7(); err != nil {
				return err
			}
		}
		_, err := conn.Exec(ctx, `insert into public.outbox_events (id, type, payload) values ($1, 'discard.send', jsonb_build_object('n', $2::int, 'text', repeat('x', $3::int)))`, id, n, payload-30)
		return err
	})
	if err == nil {
		_, err = db.drained(ctx, d)
	}
	if err == nil && v.env == nil { // by then sessions have said what they wrote; while it deletes it does not sleep
		err = db.asleep(ctx, d)
	}
	if err != nil {
		return err
	}
	after, err := measureSteady(ctx, db, d, past)
	if err != nil {
		return err
	}
	if now, err := processors(); err == nil && told == nil {
		res.detail("processors idle, "+v.label, "%", now.since(ticks).idleShare())
	}
	delivered, err := value[int](ctx, db, `select count(*) from outbox.deliveries where state = 'delivered' and event_seq > $1`, past)
	if err == nil && delivered != count {
		err = fmt.Errorf("of %d events %d were delivered", count, delivered)
	}
	if err != nil {
		return err
	}

	each := func(a, b float64) float64 { return (b - a) / float64(count) }
	res.add("log for an event, "+v.label, "B", each(before.log, after.log))
	if before.images >= 0 {
		res.detail("full-page images an event, "+v.label, "", each(before.images, after.images))
	}
	if before.cpu > 0 {
		res.detail("the listener computes for an event, "+v.label, "µs", each(before.cpu.Seconds(), after.cpu.Seconds())*1e6)
	}
	took := after.at.Sub(before.at).Seconds()
	res.detail("events a second, until the last is processed, "+v.label, "", float64(count)/took)
	if v.env == nil {
		res.detail("room for an event, with its indexes, "+v.label, "B", each(before.events, after.events))
		res.detail("room for its delivery in the ledger, "+v.label, "B", each(before.deliveries, after.deliveries))
		return nil
	}
	gone := deletedRows{after.deleted.deliveries - before.deleted.deliveries, after.deleted.events - before.deleted.events}
	res.detail("deliveries deleted a second, "+v.label, "", float64(gone.deliveries)/took)
	res.detail("events deleted a second, "+v.label, "", float64(gone.events)/took)
	return nil
}

// steadyState is what there is at a moment.
type steadyState struct {
	at                 time.Time
	log, images        float64       // bytes; images are -1 where they are not counted
	events, deliveries float64       // bytes
	cpu                time.Duration // of the listener; 0 where the system does not tell
	deleted            deletedRows
}

func measureSteady(ctx context.Context, db *database, d *daemon, past int) (s steadyState, err error) {
	s.at = time.Now()
	if s.log, s.images, err = walPosition(ctx, db); err != nil {
		return s, err
	}
	err = db.pool.QueryRow(ctx, `select pg_total_relation_size('public.outbox_events')::float8, pg_total_relation_size('outbox.deliveries')::float8`).
		Scan(&s.events, &s.deliveries)
	if err != nil {
		return s, err
	}
	s.cpu, _ = d.cpu() // or it is left out
	s.deleted, err = db.deleted(ctx, past)
	return s, err
}

// configure changes a setting of a server of our own that needs no restart.
func (s *server) configure(ctx context.Context, name, value string) error {
	if err := s.exec(ctx, "alter system set "+name+" = "+value); err != nil {
		return err
	}
	return s.exec(ctx, "select pg_reload_conf()")
}
