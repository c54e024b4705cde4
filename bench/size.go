package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// sizePayload keeps the large table within a few gigabytes.
const sizePayload = 60

// few is what waits in the small table.
const few = 10_000

// smallRuns is how often a round drains a small one: there are some 80 claims
// in a run, too few for a percentile.
const smallRuns = 8

// tableSize compares a table with a long past and a large backlog with a
// small and new one.
//
// What a claim takes depends on more than the size. Measured with
// auto_explain, counting the pages that each claim of a drain looked at: the
// slowest in a hundred are not those that read from disk (reading was a twelfth
// of the time), but those that look again at what lies below the cursor for late
// commits, ten times a second at most, and at the start those that begin at a
// floor which the listener before did not bring up to date any more. Both grow
// with how long a listener has drained and not with the table: a new table with as
// many events as the large one gets done in a round has the same p99. So there is
// a third table to tell the two apart, and the first twentieth of each run,
// where the start is, is shown by itself.
func tableSize(ctx context.Context, r *run, res *result) error {
	done, pending := r.SizeProcessed, r.size(1_000_000)
	if done == 0 {
		done = r.size(10_000_000)
	}
	slice := pending / max(r.Rounds, 5)
	runs := pick(r, smallRuns, 1)
	res.note("Large: %s processed events, with their deliveries in the ledger, and %s that wait; small: %s that wait and nothing else; new: %s that wait and nothing else. Payloads of %d bytes, batch 10. In each round a listener is started on the large one until %s events are done, on %d small ones until they are empty, and on a new one, as many events as on the large one.", number(float64(done)), number(float64(pending)), number(few), number(float64(slice)), sizePayload, number(float64(slice)), runs)
	res.note("Rate: the middle 80 %% of the first %s events after the start, by processed_at. Claims: all of a run but the first twentieth, which stands by itself as the start.", number(few))
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
	variants := []func(round int) error{
		func(round int) error {
			return r.sizeRuns(res, "large", 1, func() (sizeRun, error) { return r.sizeRun(ctx, large, int64(done+round*slice), slice) })
		},
		func(int) error {
			return r.sizeRuns(res, "small", runs, func() (sizeRun, error) { return r.newSizeRun(ctx, few) })
		},
		func(int) error {
			return r.sizeRuns(res, "new", 1, func() (sizeRun, error) { return r.newSizeRun(ctx, slice) })
		},
	}
	for round := range r.Rounds {
		for _, measure := range inTurn(round, variants) {
			if err := measure(round); err != nil {
				return err
			}
		}
	}
	rates := func(which string) []float64 { return res.values(ours + ", " + which) }
	res.atLeast("drain rate, large / small", "x", 0.9, ratios(rates("large"), rates("small")))
	p99 := func(which string) []float64 { return res.values("claim p99, " + which) }
	for _, ratio := range ratios(p99("large"), p99("new")) {
		res.detail("claim p99, large / new", "x", ratio)
	}
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

// A sizeRun is what one run of a listener showed.
type sizeRun struct {
	rate        float64   // of the first few events, a second
	start, rest []float64 // ms of each claim: of the first twentieth, of the others
}

// sizeRuns adds what a number of runs on tables of one kind showed.
func (r *run) sizeRuns(res *result, which string, runs int, measure func() (sizeRun, error)) error {
	var rates, start, rest []float64
	for range runs {
		one, err := measure()
		if err != nil {
			return err
		}
		rates, start, rest = append(rates, one.rate), append(start, one.start...), append(rest, one.rest...)
	}
	res.add(ours+", "+which, "events/s", median(rates))
	res.detail("claim p50, "+which, "ms", median(rest))
	res.detail("claim p99, "+which, "ms", percentile(rest, 99))
	res.detail("claim p99 at the start, "+which, "ms", percentile(start, 99))
	return nil
}

// newSizeRun is sizeRun on a table of its own with n events that wait.
func (r *run) newSizeRun(ctx context.Context, n int) (one sizeRun, err error) {
	db, err := r.server.filled(ctx, n, sizePayload)
	if err != nil {
		return one, err
	}
	defer db.drop()
	return r.sizeRun(ctx, db, 0, n)
}

// sizeRun has a listener deliver about n events above number after.
func (r *run) sizeRun(ctx context.Context, db *database, after int64, n int) (one sizeRun, err error) {
	w, err := watchClaims(ctx, db)
	if err != nil {
		return one, err
	}
	defer w.stop()
	// The round before may have gone beyond its share.
	first, err := value[int64](ctx, db, fmt.Sprintf(`select seq from public.outbox_events where seq > %d and processed_at is null order by seq limit 1`, after))
	if err != nil {
		return one, err
	}
	begun, err := value[time.Time](ctx, db, `select clock_timestamp()`)
	if err != nil {
		return one, err
	}
	from := time.Now()
	d, err := r.launch(db, nil)
	if err != nil {
		return one, err
	}
	err = db.processed(ctx, d, after+int64(n))
	until := time.Now()
	d.stop()
	if err != nil {
		return one, err
	}
	err = db.pool.QueryRow(ctx, `
		select 0.8 * count(*) / extract(epoch from percentile_disc(0.9) within group (order by processed_at) - percentile_disc(0.1) within group (order by processed_at))
		from public.outbox_events where seq > $1 and seq <= $2 and processed_at >= $3`, first-1, first+few-1, begun).Scan(&one.rate)
	if err != nil {
		return one, err
	}
	took, err := w.between(ctx, first-1, from, until)
	if err == nil && len(took) == 0 {
		err = errors.New("no claim was seen")
	}
	start := int(math.Ceil(float64(len(took)) / 20))
	one.start, one.rest = took[:start], took[start:]
	return one, err
}
