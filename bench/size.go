package bench

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/outbox-listener/outbox-listener/sql"
)

// sizePayload keeps the large table within a few gigabytes.
const sizePayload = 60

// few is what waits in the small table.
const few = 10_000

// sizeStarts is how often a round starts a listener on each of the two tables:
// there are some 80 claims in the small one, too few for a percentile.
const sizeStarts = 8

// tableSize compares a table with a long past and a large backlog with a
// small and new one.
//
// What a claim takes depends on more than the size, so that both sides do the
// same: as many starts of a listener on each, in turn, and of each start the same
// number of events. Before each the floor is where a listener leaves it that has
// had a second to bring it up, since one that is stopped while it drains leaves
// it behind, and its successor walks over what was done since.
//
// The longer a listener drains, the more there is between what it knows to be
// settled and what it has claimed, which it looks through for late commits ten
// times a second at most. That makes the slowest in a hundred claims of a long
// drain slower than those of a short one, on a new table as on a large one: so
// longer drains are compared with each other.
func tableSize(ctx context.Context, r *run, res *result) error {
	done, pending := r.SizeProcessed, r.size(1_000_000)
	if done == 0 {
		done = r.size(10_000_000)
	}
	small, starts, long := r.size(few), pick(r, sizeStarts, 2), r.size(100_000)
	res.note("Large: %s processed events, with their deliveries in the ledger, and %s that wait; small: %s that wait and nothing else. Payloads of %d bytes, batch 10. In each round a listener is started %d times on the large one, until %[3]s events are done, and as often on a small one, in turn. Before each round what was done of the large one is filled up, and it is vacuumed.", number(float64(done)), number(float64(pending)), number(float64(small)), sizePayload, starts)
	res.note("Rate: the middle 80 %% of those %s events, by processed_at; of a round the median. Claims: all of them while they were done, the first ones too; of a round together.", number(float64(small)))
	res.note("Before each start, on both sides, the floor is brought up to what is done (sql/queries/advance_floor.sql), as a listener does within a second that is not stopped while it drains. So no claim walks over what earlier starts did, and what such a walk would take is not in the figures.")
	res.note("A long drain: %s events of the large table, and of a new one that has nothing else.", number(float64(long)))
	res.note("%s", claimMethod(r.server))
	large, err := r.server.migrated(ctx)
	if err != nil {
		return err
	}
	defer large.drop()
	begun := time.Now()
	if err := large.fillPast(ctx, done, sizePayload, 0); err != nil {
		return err
	}
	for round := range r.Rounds {
		if err := large.fillUp(ctx, pending); err != nil {
			return err
		}
		if round == 0 {
			bytes, err := value[int64](ctx, large, `select pg_database_size(current_database())`)
			if err != nil {
				return err
			}
			r.say("  size · the large table is built: %.1f GB in %s", float64(bytes)/1e9, time.Since(begun).Round(time.Second))
		}
		if err := r.sizeRound(ctx, res, large, round, small, starts, long); err != nil {
			return err
		}
	}
	rates := func(which string) []float64 { return res.values(ours + ", " + which) }
	res.atLeast("drain rate, large / small", "x", 0.9, ratios(rates("large"), rates("small")))
	p99 := func(which string) []float64 {
		if v := res.values("claim p99, " + which); len(v) == r.Rounds {
			return v
		}
		return nil // rounds would not be those of the other side
	}
	res.atMost("claim latency p99, large / small", "x", 1.3, ratios(p99("large"), p99("small")))
	res.atLeast("drain rate of a long drain, large / new", "x", 0.9, ratios(rates("large, long drain"), rates("new, long drain")))
	res.atMost("claim latency p99 of a long drain, large / new", "x", 1.3, ratios(p99("large, long drain"), p99("new, long drain")))
	return nil
}

// sizeRound measures one round.
func (r *run) sizeRound(ctx context.Context, res *result, large *database, round, small, starts, long int) error {
	onLarge := func(n int) (sizeRun, error) { return r.sizeRun(ctx, large, n) }
	onNew := func(n int) (sizeRun, error) { return r.newSizeRun(ctx, n) }
	sides := []sizeSide{{"large", onLarge}, {"small", onNew}}
	all := map[string][]sizeRun{}
	for i := range starts {
		for _, s := range inTurn(round+i, sides) {
			one, err := s.measure(small)
			if err != nil {
				return err
			}
			all[s.name] = append(all[s.name], one)
		}
	}
	for _, s := range sides {
		res.addSize(s.name, all[s.name])
	}
	for _, s := range inTurn(round, []sizeSide{{"large, long drain", onLarge}, {"new, long drain", onNew}}) {
		one, err := s.measure(long)
		if err != nil {
			return err
		}
		res.addSize(s.name, []sizeRun{one})
	}
	return nil
}

// A sizeSide is a table to measure n events on.
type sizeSide struct {
	name    string
	measure func(n int) (sizeRun, error)
}

// addSize adds what a number of runs on tables of one kind showed.
func (res *result) addSize(which string, runs []sizeRun) {
	var rates, brought, empty []float64
	for _, one := range runs {
		rates, brought, empty = append(rates, one.rate), append(brought, one.claims.brought...), append(empty, one.claims.empty...)
	}
	res.add(ours+", "+which, "events/s", median(rates))
	res.detail("claims that brought something, "+which, "", float64(len(brought)))
	res.detail("claims that found nothing, "+which, "", float64(len(empty)))
	if len(brought) > 0 { // probes may be too few
		res.detail("claim p50, "+which, "ms", median(brought))
		res.detail("claim p99, "+which, "ms", percentile(brought, 99))
	}
}

// fillUp inserts events until so many wait.
func (db *database) fillUp(ctx context.Context, pending int) error {
	waiting, err := value[int](ctx, db, `select count(*) from public.outbox_events
		where seq > (select floor from outbox.state) and processed_at is null`)
	if err != nil {
		return err
	}
	if waiting < pending {
		if err := db.fill(ctx, pending-waiting, sizePayload); err != nil {
			return err
		}
	}
	return db.settle(ctx)
}

// fillPast inserts n events that were processed so long ago, and their deliveries,
// as a listener leaves them, but in one version each, and with the floor above them. Nothing else must be there
// yet. The indexes are made afterwards, which takes a fraction of the time.
func (db *database) fillPast(ctx context.Context, n, bytes int, ago time.Duration) error {
	for _, statement := range []string{
		`alter table public.outbox_events drop constraint outbox_events_pkey`,
		`drop index public.outbox_events_seq`,
		`alter table outbox.deliveries drop constraint deliveries_pkey`,
		fmt.Sprintf(`insert into public.outbox_events (type, payload, created_at, processed_at, claim)
			select 'discard.send', jsonb_build_object('n', n, 'text', repeat('x', %d)), at, at, gen_random_uuid()
			from generate_series(1, %d) as n, (select now() - %f * interval '1 second') as t (at)`, bytes-30, n, ago.Seconds()),
		`insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, created_at, finished_at)
			select (lpad(to_hex(seq), 12, '0') || '8' || substr(md5(id::text), 14, 3) || '8' || substr(md5(id::text), 18, 15))::uuid,
				id, seq, type, created_at, 'direct', 'discard', 'discard', '', 'delivered', 1, processed_at, processed_at
			from public.outbox_events`,
		`alter table public.outbox_events add primary key (id)`,
		`create unique index outbox_events_seq on public.outbox_events (seq)`,
		`alter table outbox.deliveries add primary key (id)`,
		fmt.Sprintf(`update outbox.state set floor = %d`, n),
	} {
		if err := db.exec(ctx, statement); err != nil {
			return fmt.Errorf("building what is past: %w", err)
		}
	}
	return nil
}

// A sizeRun is what one run of a listener showed.
type sizeRun struct {
	rate   float64 // events a second
	claims claimTimes
}

// newSizeRun is sizeRun on a table of its own with n events that wait.
func (r *run) newSizeRun(ctx context.Context, n int) (one sizeRun, err error) {
	db, err := r.server.filled(ctx, n, sizePayload)
	if err != nil {
		return one, err
	}
	defer db.drop()
	return r.sizeRun(ctx, db, n)
}

// sizeRun has a listener deliver the next n events, and may go on for a moment.
func (r *run) sizeRun(ctx context.Context, db *database, n int) (one sizeRun, err error) {
	if err := db.exec(ctx, sql.Query("advance_floor"), int64(math.MaxInt64)); err != nil {
		return one, err
	}
	w, err := watchClaims(ctx, db)
	if err != nil {
		return one, err
	}
	defer w.stop()
	// The numbers have no gaps. To look for the events would be to warm their pages.
	floor, err := value[int64](ctx, db, `select floor from outbox.state`)
	if err != nil {
		return one, err
	}
	first, last := floor+1, floor+int64(n)
	from := time.Now()
	d, err := r.launch(db, nil)
	if err != nil {
		return one, err
	}
	err = db.processed(ctx, d, last)
	until := time.Now()
	d.stop()
	if err != nil {
		return one, err
	}
	err = db.pool.QueryRow(ctx, `
		select 0.8 * count(processed_at) / extract(epoch from percentile_disc(0.9) within group (order by processed_at) - percentile_disc(0.1) within group (order by processed_at))
		from public.outbox_events where seq between $1 and $2`, first, last).Scan(&one.rate)
	if err != nil {
		return one, err
	}
	one.claims, err = w.between(ctx, first-1, from, until)
	return one, err
}
