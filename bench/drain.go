package bench

import (
	"context"
	"strconv"
)

// payload is about how large the payload of an event is, in bytes.
const payload = 250

// drainMethod says in a report how the two sides are timed.
const drainMethod = "The listener's time begins with its first connection and ends when another session sees every event processed, both by the server's clock. " +
	"The others' time is as they print it, from starting their worker on a pool that is connected. Rows are kept; before each run: VACUUM ANALYZE and CHECKPOINT."

// untunedMethod says in a report why River is there twice.
const untunedMethod = "River and the listener run with GOGC=300, which is the listener's own default; " + riverUntuned + " is as Go has it otherwise. The ratio is to the former."

// drainOurs returns how many events a second the listener delivers, of n that
// wait. With urls they are webhooks.
func (r *run) drainOurs(ctx context.Context, n, bytes int, env vars, urls ...string) (float64, error) {
	db, err := r.server.filled(ctx, n, bytes, urls...)
	if err != nil {
		return 0, err
	}
	return r.drainOn(ctx, db, n, env)
}

// gapEvery is how many numbers there are to one that is missing, in the variant that has some.
const gapEvery = 50

// drainWithGaps is drainOurs where some numbers are missing, as inserts leave them that are rolled back.
func (r *run) drainWithGaps(ctx context.Context, n, bytes int, env vars) (float64, error) {
	db, err := r.server.filled(ctx, n+(n-1)/(gapEvery-1), bytes)
	if err != nil {
		return 0, err
	}
	if err = db.exec(ctx, `delete from public.outbox_events where seq % $1::bigint = 0`, gapEvery); err == nil {
		err = db.settle(ctx)
	}
	if err != nil {
		db.drop()
		return 0, err
	}
	return r.drainOn(ctx, db, n, env)
}

// drainOn returns how many of the n events of db the listener delivers in a second, and drops db.
func (r *run) drainOn(ctx context.Context, db *database, n int, env vars) (float64, error) {
	defer db.drop()
	d, err := r.launch(db, env)
	if err != nil {
		return 0, err
	}
	defer d.stop()
	last, err := db.drained(ctx, d)
	if err != nil {
		return 0, err
	}
	begun, err := db.firstConnection(ctx)
	if err == nil {
		err = db.allDelivered(ctx, n)
	}
	return float64(n) / last.Sub(begun).Seconds(), err
}

// drainAgainst measures the listener and the named peers in turn.
func drainAgainst(ctx context.Context, r *run, res *result, n, size int, names ...string) error {
	res.note(drainMethod)
	res.note("%s events of %d bytes, one process, one machine.", number(float64(n)), payload)
	res.note("In one variant each %dth number is missing, as of inserts that were rolled back. Otherwise all events were inserted by one statement, and lie one behind the other.", gapEvery)
	gaps := oursAt(size) + ", numbers missing"
	variants := []variant{
		{oursAt(size), func() (float64, error) { return r.drainOurs(ctx, n, payload, batch(size)) }},
		{gaps, func() (float64, error) { return r.drainWithGaps(ctx, n, payload, batch(size)) }},
	}
	for _, name := range names {
		if p := r.peer(name); p != nil {
			variants = append(variants, variant{name, func() (float64, error) { return p.drain(ctx, r.server, n, payload, "") }})
		}
	}
	err := r.compare(res, "events/s", r.Rounds, variants)
	res.each("numbers missing / none", "x", ratios(res.values(gaps), res.values(oursAt(size))))
	return err
}

func oursAt(size int) string { return ours + ", batch " + strconv.Itoa(size) }

func drain(ctx context.Context, r *run, res *result) error {
	res.note(untunedMethod)
	err := drainAgainst(ctx, r, res, r.size(200_000), 1000, river, riverUntuned, graphile, pgboss)
	our := res.values(oursAt(1000))
	res.atLeast("listener / River, batch 1000 (aim 4)", "x", 3, ratios(our, res.values(river)))
	var best []float64
	if len(res.values(graphile)) > 0 && len(res.values(pgboss)) > 0 { // without them River would be the best
		best = larger(res.values(river), larger(res.values(graphile), res.values(pgboss)))
	}
	res.atLeast("listener / the best of the others (aim 2.5)", "x", 2, ratios(our, best))
	return err
}

func drain10(ctx context.Context, r *run, res *result) error {
	err := drainAgainst(ctx, r, res, r.size(200_000), 10, river)
	res.atLeast("listener / River, batch 10", "x", 1.5, ratios(res.values(oursAt(10)), res.values(river)))
	return err
}
