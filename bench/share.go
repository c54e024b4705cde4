package bench

import (
	"context"
	"strconv"
	"time"

	"github.com/outbox-listener/outbox-listener/listener"
)

// share compares three listeners on one backlog of webhooks with one. The
// receiver takes its time, and each listener has half the workers that it has by
// default, so that it is those that are short, and not the machine. With the defaults,
// three are compared with one, too, without a target: what is short then is, for
// three of them, two processors.
func share(ctx context.Context, r *run, res *result) error {
	n := pick(r, 5000, 1000)
	const answer, few = 20 * time.Millisecond, 16
	res.note("%s webhooks whose answers take %s; batch 10, %d workers each (OUTBOX_WORKERS) or the default of %d. From the first connection to when another session sees every event processed.", number(float64(n)), answer, few, listener.DefaultWorkers)
	workers := vars{"OUTBOX_WORKERS": strconv.Itoa(few)}
	one, three := ours+", one process", ours+", three processes"
	oneMore, threeMore := one+", default workers", three+", default workers"
	err := r.compare(res, "webhooks/s", r.Rounds, []variant{
		{one, func() (float64, error) { return r.shared(ctx, n, 1, answer, workers) }},
		{three, func() (float64, error) { return r.shared(ctx, n, 3, answer, workers) }},
		{oneMore, func() (float64, error) { return r.shared(ctx, n, 1, answer, nil) }},
		{threeMore, func() (float64, error) { return r.shared(ctx, n, 3, answer, nil) }},
	})
	if err != nil {
		return err
	}
	res.each("three processes / one, default workers", "x", ratios(res.values(threeMore), res.values(oneMore)))
	res.atLeast("three processes / one", "x", 2.5, ratios(res.values(three), res.values(one)))
	return nil
}

// shared returns how many webhooks a second that many listeners deliver.
func (r *run) shared(ctx context.Context, n, processes int, answer time.Duration, env vars) (float64, error) {
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
		d, err := r.launch(db, env)
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
