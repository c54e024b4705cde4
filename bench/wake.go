package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// wake looks for a wake-up that is lost. In each round one event wakes the
// listener, and two transactions insert and commit while it falls asleep
// again. Nothing else happens then: the sweep is ten minutes away, and whatever
// arrives was announced.
func wake(ctx context.Context, r *run, res *result) error {
	rounds := pick(r, 2000, 100)
	const late = 50 * time.Millisecond
	const lost = 5 * time.Second
	res.note("%d rounds. Each: an event wakes the listener; 0–30 ms after its delivery each of two sessions inserts an event and commits 0–70 ms later; the next round begins when both have arrived. The poll interval is 1 h and OUTBOX_LEASE 1 h, whose sixth bounds the sweep too: ten minutes. From when COMMIT had returned to the first byte at the receiver.", rounds)
	to, err := startSink(&sink{at: arrivals(3 * rounds), C: make(chan int, 3*rounds)})
	if err != nil {
		return err
	}
	defer to.close()
	db, err := r.server.migrated(ctx)
	if err != nil {
		return err
	}
	defer db.drop()
	var conns [3]*pgx.Conn
	for i := range conns {
		if conns[i], err = pgx.Connect(ctx, db.url); err != nil {
			return err
		}
		defer conns[i].Close(context.WithoutCancel(ctx))
	}
	d, err := r.launchAsleep(ctx, db, vars{"OUTBOX_POLL_INTERVAL_MS": "3600000", "OUTBOX_LEASE": "1h"})
	if err != nil {
		return err
	}
	defer d.stop()

	took := make([]float64, 0, 2*rounds)
	missing, tardy := 0, 0
	for i := range rounds {
		if _, err := commitWebhook(ctx, conns[0], to.url(), 3*i, 0); err != nil {
			return err
		}
		if _, err := to.await(ctx, d, 3*i, lost); err != nil {
			return fmt.Errorf("round %d: the event that wakes: %w", i, err)
		}
		type commit struct {
			n   int
			at  time.Time
			err error
		}
		commits := make(chan commit, 2)
		for k := 1; k <= 2; k++ {
			go func() {
				time.Sleep(rand.N(30 * time.Millisecond))
				at, err := commitWebhook(ctx, conns[k], to.url(), 3*i+k, rand.N(70*time.Millisecond))
				commits <- commit{3*i + k, at, err}
			}()
		}
		var both [2]commit
		for k := range both {
			if both[k] = <-commits; both[k].err != nil {
				err = errors.Join(err, both[k].err)
			}
		}
		if err != nil {
			return err
		}
		deadline := time.Now().Add(lost)
		for _, c := range both {
			for to.arrived(c.n).IsZero() && time.Now().Before(deadline) {
				if err := d.pause(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			at := to.arrived(c.n)
			if at.IsZero() {
				missing++
				r.say("  wake · round %d: an event was not delivered within %s", i, lost)
				continue
			}
			if at.Sub(c.at) > late {
				tardy++
				r.say("  wake · round %d: %s", i, at.Sub(c.at).Round(time.Microsecond))
			}
			took = append(took, ms(at.Sub(c.at)))
		}
		if missing > 0 { // what was lost must not come in between
			break
		}
		for len(to.C) > 0 {
			<-to.C
		}
		if (i+1)%500 == 0 {
			r.say("  wake · %d rounds", i+1)
		}
	}
	res.detail("events between", "", float64(len(took)+missing))
	res.add(ours+", p50", "ms", median(took))
	res.add(ours+", p99", "ms", percentile(took, 99))
	res.add(ours+", latest", "ms", percentile(took, 100))
	res.detail("later than 50 ms", "", float64(tardy))
	res.detail("not woken for", "", float64(missing))
	res.atMost("the latest arrival after COMMIT", "ms", ms(late), res.values(ours+", latest"))
	res.never("events that nobody woke for", res.values("not woken for"))
	return nil
}
