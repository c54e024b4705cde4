package bench

import (
	"context"
	"fmt"
	"time"
)

// sizePayload keeps the large table within a few gigabytes.
const sizePayload = 60

// tableSize compares a table with a long past and a large backlog with a
// small and new one.
func tableSize(ctx context.Context, r *run, res *result) error {
	done, pending := r.SizeProcessed, r.size(1_000_000)
	if done == 0 {
		done = r.size(10_000_000)
	}
	const few = 10_000
	slice := pending / max(r.Rounds, 5)
	res.note("Large: %s processed events, with their deliveries in the ledger, and %s that wait; small: %s that wait and nothing else. Payloads of %d bytes, batch 10. In each round a listener is started on the large one until %s events are done, and on a small one of its own. Rate and claims are those of the first %s events after the start, on both, since later claims are larger; rate: the middle 80 %% of them, by processed_at.", number(float64(done)), number(float64(pending)), number(few), sizePayload, number(float64(slice)), number(few))
	res.note("%s", claimMethod(r.server))
	large, err := r.server.migrated(ctx)
	if err != nil {
		return err
	}
	defer large.drop()
	begun := time.Now()
	if err := large.fillPast(ctx, done); err != nil {
		return err
	}
	if err := large.fill(ctx, pending, sizePayload); err != nil {
		return err
	}
	if err := large.settle(ctx); err != nil {
		return err
	}
	bytes, err := value[int64](ctx, large, `select pg_database_size(current_database())`)
	if err != nil {
		return err
	}
	r.say("  size · the large table is built: %.1f GB in %s", float64(bytes)/1e9, time.Since(begun).Round(time.Second))
	for i := range r.Rounds {
		if err := r.sizeRound(ctx, res, "large", large, int64(done+i*slice), slice, few); err != nil {
			return err
		}
		small, err := r.server.filled(ctx, few, sizePayload)
		if err != nil {
			return err
		}
		err = r.sizeRound(ctx, res, "small", small, 0, few, few)
		small.drop()
		if err != nil {
			return err
		}
	}
	rates := func(which string) []float64 { return res.values(ours + ", " + which) }
	res.atLeast("drain rate, large / small", "x", 0.9, ratios(rates("large"), rates("small")))
	p99 := func(which string) []float64 { return res.values("claim p99, " + which) }
	res.atMost("claim latency p99, large / small", "x", 1.3, ratios(p99("large"), p99("small")))
	return nil
}

// fillPast inserts n events that were processed, and their deliveries, as a
// listener leaves them: the floor is above them. The indexes are made
// afterwards, which takes a fraction of the time.
func (db *database) fillPast(ctx context.Context, n int) error {
	for _, sql := range []string{
		`alter table public.outbox_events drop constraint outbox_events_pkey`,
		`drop index public.outbox_events_seq`,
		`alter table outbox.deliveries drop constraint deliveries_pkey`,
		fmt.Sprintf(`insert into public.outbox_events (type, payload, processed_at, claim)
			select 'discard.send', jsonb_build_object('n', n, 'text', repeat('x', %d)), now(), gen_random_uuid()
			from generate_series(1, %d) as n`, sizePayload-30, n),
		`insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, claim, finished_at)
			select (lpad(to_hex(seq), 12, '0') || '8' || substr(md5(id::text), 14, 3) || '8' || substr(md5(id::text), 18, 15))::uuid,
				id, seq, type, created_at, 'direct', 'discard', 'discard', '', 'delivered', 1, claim, now()
			from public.outbox_events`,
		`alter table public.outbox_events add primary key (id)`,
		`create unique index outbox_events_seq on public.outbox_events (seq)`,
		`alter table outbox.deliveries add primary key (id)`,
		fmt.Sprintf(`update outbox.state set floor = %d`, n),
	} {
		if err := db.exec(ctx, sql); err != nil {
			return fmt.Errorf("building the large table: %w", err)
		}
	}
	return nil
}

// sizeRound has a listener deliver about n events above number after, and looks
// at the claims of the first few of them.
func (r *run) sizeRound(ctx context.Context, res *result, which string, db *database, after int64, n, few int) error {
	w, err := watchClaims(ctx, db)
	if err != nil {
		return err
	}
	defer w.stop()
	// The round before may have gone beyond its share.
	first, err := value[int64](ctx, db, fmt.Sprintf(`select seq from public.outbox_events where seq > %d and processed_at is null order by seq limit 1`, after))
	if err != nil {
		return err
	}
	begun, err := value[time.Time](ctx, db, `select clock_timestamp()`)
	if err != nil {
		return err
	}
	d, err := r.launch(db, nil)
	if err != nil {
		return err
	}
	err = db.processed(ctx, d, first+int64(few)-1)
	until := time.Now()
	if err == nil {
		err = db.processed(ctx, d, after+int64(n))
	}
	d.stop()
	if err != nil {
		return err
	}
	var rate float64
	err = db.pool.QueryRow(ctx, `
		select 0.8 * count(*) / extract(epoch from percentile_disc(0.9) within group (order by processed_at) - percentile_disc(0.1) within group (order by processed_at))
		from public.outbox_events where seq > $1 and seq <= $2 and processed_at >= $3`, first-1, first+int64(few)-1, begun).Scan(&rate)
	if err != nil {
		return err
	}
	res.add(ours+", "+which, "events/s", rate)
	took := w.log.between(begun, until)
	if len(took) == 0 {
		return fmt.Errorf("no claim was seen in the server's log")
	}
	res.detail("claim p50, "+which, "ms", median(took))
	res.detail("claim p99, "+which, "ms", percentile(took, 99))
	return nil
}
