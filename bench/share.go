package bench

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/outbox-listener/outbox-listener/listener"
)

// share compares three listeners on one backlog of webhooks with one, with the defaults. The
// receiver takes its time. Half the workers are compared too, without a target: what is
// short then is workers, and not the machine.
func share(ctx context.Context, r *run, res *result) error {
	n := pick(r, 20_000, 1000)
	const answer, few = 20 * time.Millisecond, 16
	res.note("%s webhooks whose answers take %s; the default of %d workers each, or %d (OUTBOX_WORKERS). From the first connection to when another session sees every event processed.", number(float64(n)), answer, listener.DefaultWorkers, few)
	workers := vars{"OUTBOX_WORKERS": strconv.Itoa(few)}
	one, three := ours+", one process", ours+", three processes"
	oneFew, threeFew := fmt.Sprintf("%s, %d workers", one, few), fmt.Sprintf("%s, %d workers", three, few)
	err := r.compare(res, "webhooks/s", r.Rounds, []variant{
		{one, func() (float64, error) { return r.shared(ctx, n, 1, answer, nil) }},
		{three, func() (float64, error) { return r.shared(ctx, n, 3, answer, nil) }},
		{oneFew, func() (float64, error) { return r.shared(ctx, n, 1, answer, workers) }},
		{threeFew, func() (float64, error) { return r.shared(ctx, n, 3, answer, workers) }},
	})
	if err != nil {
		return err
	}
	res.each(fmt.Sprintf("three processes / one, %d workers", few), "x", ratios(res.values(threeFew), res.values(oneFew)))
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
