package bench

import (
	"context"
	"errors"
	"time"
)

// stuck has one delivery that does not end while events pass.
func stuck(ctx context.Context, r *run, res *result) error {
	n := r.size(300_000)
	res.note("%s events pass, %d at a time, batch 100, while the receiver of one webhook never answers. A webhook is given 15 s, which cannot be configured; after that the listener tries again later.", number(float64(n)), feedChunk)
	res.note("%s", claimMethod(r.server))
	for range min(r.Rounds, 3) {
		if err := r.passStuck(ctx, res, n); err != nil {
			return err
		}
	}
	res.atMost("claim latency, last tenth / first, p99", "x", 1.5, res.drift("p99"))
	return nil
}

func (r *run) passStuck(ctx context.Context, res *result, n int) error {
	to, err := startSink(&sink{hang: true, at: arrivals(1), C: make(chan int, 1)})
	if err != nil {
		return err
	}
	defer to.close()
	db, err := r.server.migrated(ctx)
	if err != nil {
		return err
	}
	defer db.drop()
	if err := db.settle(ctx); err != nil {
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
	defer d.kill() // an orderly stop would wait for what is stuck
	if err := db.insertWebhook(ctx, to.url(), 0); err != nil {
		return err
	}
	if _, err := to.await(ctx, d, 0, time.Minute); err != nil {
		return err
	}
	f, err := db.feed(ctx, d, n)
	if err != nil {
		return err
	}
	for left := 0; left != 1; { // the last batches end in any order
		left, err = value[int](ctx, db, `select count(*) from public.outbox_events where processed_at is null`)
		if err != nil {
			return err
		}
		if left == 0 {
			return errors.New("the event that should be stuck is processed")
		}
		if err := d.pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	res.claimDrift(w, f)
	res.detail("rate", "events/s", float64(n)/f.ended.Sub(f.begun).Seconds())
	res.detail("stuck meanwhile for", "s", f.ended.Sub(f.begun).Seconds())
	return nil
}
