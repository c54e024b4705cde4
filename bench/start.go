package bench

import (
	"context"
	"time"
)

// start launches the program again and again while one webhook waits for it.
func start(ctx context.Context, r *run, res *result) error {
	times := pick(r, 10, 3)
	res.note("%d launches; each finds one webhook that waits. From just before the process is started to the first byte at the receiver.", times)
	to, err := startSink(&sink{at: arrivals(times), C: make(chan int, times)})
	if err != nil {
		return err
	}
	defer to.close()
	db, err := r.server.migrated(ctx)
	if err != nil {
		return err
	}
	defer db.drop()
	for i := range times {
		if err := db.insertWebhook(ctx, to.url(), i); err != nil {
			return err
		}
		d, err := r.launch(db, nil)
		if err != nil {
			return err
		}
		at, err := to.await(ctx, d, i, time.Minute)
		if err == nil {
			_, err = db.drained(ctx, d)
		}
		d.stop()
		if err != nil {
			return err
		}
		res.add(ours+", launch to delivery", "ms", ms(at.Sub(d.launched)))
	}
	res.atMost("from launch to the first delivery, median", "ms", 150, res.values(ours+", launch to delivery"))
	return nil
}
