//go:build unix

package faultrig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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

// watchDelays notes as a fault of one listener where a thread of its process was ready
// to run and did not for a quarter of the lease: then its machine stood still for it
// alone, which no commit of ours shows. Only Linux says so.
func (r *run) watchDelays(ctx context.Context) {
	tick := time.NewTicker(250 * time.Millisecond) // what a thread waits for is known once it runs again, however long ago that began
	defer tick.Stop()
	before := map[string]time.Duration{} // by thread
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		for _, d := range r.daemons {
			tasks := fmt.Sprintf("/proc/%d/task", d.pid())
			threads, _ := os.ReadDir(tasks) // none where it has ended
			for _, thread := range threads {
				t := filepath.Join(tasks, thread.Name())
				waited, ok := runDelay(filepath.Join(t, "schedstat"))
				if !ok {
					continue // it has ended
				}
				if from, known := before[t]; known && waited-from > r.plan.Lease/4 {
					r.faults.note(Fault{Kind: Slow, What: "for one listener", Daemon: d.number, From: last.Add(from - waited), To: now})
				}
				before[t] = waited
			}
		}
		last = now
	}
}

// runDelay is for how long a thread was ready to run and did not, by a file schedstat
// (the second of its numbers, in nanoseconds).
func runDelay(path string) (time.Duration, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, false
	}
	ns, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return time.Duration(ns), err == nil
}
