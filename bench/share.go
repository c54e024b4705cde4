package bench

import (
	"context"
	"time"
)

// share compares three listeners on one backlog of webhooks with one. The
// receiver takes its time, so that it is the workers that are short, and not
// the machine.
func share(ctx context.Context, r *run, res *result) error {
	n := pick(r, 5000, 1000)
	const answer = 20 * time.Millisecond
	res.note("%s webhooks whose answers take %s; defaults: batch 10, 16 workers each. From the first connection to when another session sees every event processed.", number(float64(n)), answer)
	one, three := ours+", one process", ours+", three processes"
	err := r.compare(res, "webhooks/s", r.Rounds, []variant{
		{one, func() (float64, error) { return r.shared(ctx, n, 1, answer) }},
		{three, func() (float64, error) { return r.shared(ctx, n, 3, answer) }},
	})
	if err != nil {
		return err
	}
	res.atLeast("three processes / one", "x", 2.5, ratios(res.values(three), res.values(one)))
	return nil
}

// shared returns how many webhooks a second that many listeners deliver.
func (r *run) shared(ctx context.Context, n, processes int, answer time.Duration) (float64, error) {
	to, err := startSink(&sink{delay: answer, at: arrivals(n)})
	if err != nil {
		return 0, err
	}
	defer to.close()
	db, err := r.server.filled(ctx, n, payload, to.url())
	if err != nil {
		return 0, err
	}
	defer db.drop()
	var first *daemon
	for range processes {
		d, err := r.launch(db, nil)
		if err != nil {
			return 0, err
		}
		defer d.stop()
		if first == nil {
			first = d
		}
	}
	last, err := db.drained(ctx, first)
	if err != nil {
		return 0, err
	}
	begun, err := db.firstConnection(ctx)
	if err == nil {
		err = db.allDelivered(ctx, n)
	}
	if err != nil {
		return 0, err
	}
	return float64(n) / last.Sub(begun).Seconds(), to.complete(n)
}
