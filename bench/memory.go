package bench

import (
	"context"
	"os"
)

// noProc says that the system does not tell what a process takes.
func noProc(context.Context, *run) (string, error) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		return errNoProc.Error(), nil
	}
	return "", nil
}

// memory reads the most memory that the process had while it drained a large
// backlog with the largest batch.
func memory(ctx context.Context, r *run, res *result) error {
	n := r.size(1_000_000)
	res.note("%s events with payloads of 1 KiB, batch 1000; VmHWM of the process at the end.", number(float64(n)))
	db, err := r.server.filled(ctx, n, 1024)
	if err != nil {
		return err
	}
	defer db.drop()
	d, err := r.launch(db, batch(1000))
	if err != nil {
		return err
	}
	defer d.stop()
	last, err := db.drained(ctx, d)
	if err != nil {
		return err
	}
	begun, err := db.firstConnection(ctx)
	if err == nil {
		err = db.allDelivered(ctx, n)
	}
	if err != nil {
		return err
	}
	peak, err := d.memory("VmHWM")
	if err != nil {
		return err
	}
	res.add(ours+", most memory", "MB", peak*1.048576)
	res.detail("rate meanwhile", "events/s", float64(n)/last.Sub(begun).Seconds())
	res.atMost("resident memory, at most", "MB", 120, res.values(ours+", most memory"))
	return nil
}
