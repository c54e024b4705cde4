package bench

import (
	"context"
	"time"
)

// start launches the program again and again while one webhook waits for it.
func start(ctx context.Context, r *run, res *result) error {
	times := pick(r, 10, 3)
	res.note("%d launches; each finds one webhook that waits. From just before the process is started to the first byte at the receiver.", times)
	err := r.receiving(ctx, times, func(db *database, to *sink) error {
		for i := range times {
			if err := r.launchFor(ctx, res, i, db, to); err != nil {
				return err
			}
		}
		return nil
	})
	res.atMost("from launch to the first delivery, median", "ms", 150, res.values(ours+", launch to delivery"))
	return err
}

// launchFor has webhook number n wait and launches the program.
func (r *run) launchFor(ctx context.Context, res *result, n int, db *database, to *sink) error {
	if err := db.insertWebhook(ctx, to.url(), n); err != nil {
		return err
	}
	d, err := r.launch(db, nil)
	if err != nil {
		return err
	}
	defer d.stop()
	at, err := to.await(ctx, d, n, time.Minute)
	if err != nil {
		return err
	}
	res.add(ours+", launch to delivery", "ms", ms(at.Sub(d.launched)))
	_, err = db.drained(ctx, d)
	return err
}
