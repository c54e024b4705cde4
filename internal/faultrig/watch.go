//go:build unix

package faultrig

import (
	"context"
	"time"
)

// watch commits something every 25 ms until ctx ends, and notes as a fault where
// that took a quarter of the lease, which listeners renew by commits, too. The database of a
// machine that does other things too stands still for longer than a lease at
// times, which no listener can help.
func (r *run) watch(ctx context.Context) {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := r.pool.Exec(call, `update faultrig.pulse set at = clock_timestamp()`)
		cancel()
		now := time.Now()
		if err == nil && now.Sub(last) > r.plan.Lease/4 {
			r.faults.note(Fault{Kind: Slow, Daemon: Everyone, From: last, To: now})
		}
		last = now // an error is that of a fault, which is noted by who made it
	}
}
