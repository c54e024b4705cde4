package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	wakeLate = 50 * time.Millisecond // after its commit: an event that is late
	wakeLost = 5 * time.Second       // after it: one that nobody was woken for
)

// wake looks for a wake-up that is lost. In each round one event wakes the
// listener, which is asleep, and two transactions insert and commit while it
// falls asleep again. Nothing else happens then: the sweep is ten minutes away,
// and whatever arrives was announced.
func wake(ctx context.Context, r *run, res *result) error {
	rounds := pick(r, 2000, 100)
	res.note("%d rounds. Each: an event wakes the listener; 0–30 ms after its delivery each of two sessions inserts an event and commits 0–70 ms later; the next round begins when both have arrived and the listener is asleep. The poll interval is 1 h and OUTBOX_LEASE 1 h, whose sixth bounds the sweep too: ten minutes. From when COMMIT had returned to the first byte at the receiver, for all three.", rounds)
	var waking, between []float64 // ms
	missing := 0
	err := r.receiving(ctx, 3*rounds, func(db *database, to *sink) error {
		k, err := r.openWaker(ctx, db, to)
		if err != nil {
			return err
		}
		defer k.close()
		for i := range rounds {
			if err := db.asleep(ctx, k.d); err != nil {
				return err
			}
			first, others, lost, err := k.round(ctx, i)
			if err != nil {
				return err
			}
			waking, between, missing = append(waking, first...), append(between, others...), missing+lost
			for _, took := range append(first, others...) {
				if took > ms(wakeLate) {
					r.say("  wake · round %d: %s ms", i, number(took))
				}
			}
			if lost > 0 { // what was lost must not come in between
				r.say("  wake · round %d: %d events were not delivered within %s", i, lost, wakeLost)
				break
			}
			if (i+1)%500 == 0 {
				r.say("  wake · %d rounds", i+1)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	all := append(waking, between...)
	tardy := 0
	for _, took := range all {
		if took > ms(wakeLate) {
			tardy++
		}
	}
	res.detail("events", "", float64(len(all)+missing))
	res.add(ours+", the one that wakes, p50", "ms", median(waking))
	res.add(ours+", the one that wakes, p99", "ms", percentile(waking, 99))
	res.add(ours+", those that follow, p50", "ms", median(between))
	res.add(ours+", those that follow, p99", "ms", percentile(between, 99))
	res.add(ours+", latest", "ms", percentile(all, 100))
	res.detail("later than 50 ms", "", float64(tardy))
	res.detail("not woken for", "", float64(missing))
	res.atMost("the latest arrival after COMMIT", "ms", ms(wakeLate), res.values(ours+", latest"))
	res.never("events that nobody woke for", res.values("not woken for"))
	return nil
}

// A waker is a listener and three sessions that insert.
type waker struct {
	to    *sink
	d     *daemon
	conns [3]*pgx.Conn
}

func (r *run) openWaker(ctx context.Context, db *database, to *sink) (k *waker, err error) {
	k = &waker{to: to}
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	for i := range k.conns {
		if k.conns[i], err = pgx.Connect(ctx, db.url); err != nil {
			return nil, err
		}
	}
	k.d, err = r.launchAsleep(ctx, db, vars{"OUTBOX_POLL_INTERVAL_MS": "3600000", "OUTBOX_LEASE": "1h"})
	return k, err
}

func (k *waker) close() {
	if k.d != nil {
		k.d.stop()
	}
	for _, conn := range k.conns {
		if conn != nil {
			conn.Close(context.Background())
		}
	}
}

// committed is an event whose transaction has ended.
type committed struct {
	n   int
	at  time.Time
	err error
}

// round has one event wake the listener and two follow. It returns how long
// each of those that arrived took, in ms, and how many did not.
func (k *waker) round(ctx context.Context, i int) (first, others []float64, lost int, err error) {
	at, err := commitWebhook(ctx, k.conns[0], k.to.url(), 3*i, 0)
	if err != nil {
		return nil, nil, 0, err
	}
	if first, lost, err = k.arrivals(ctx, committed{3 * i, at, nil}); err != nil || lost > 0 {
		return first, nil, lost, err
	}
	commits := make(chan committed, 2)
	for n := 1; n <= 2; n++ {
		go func() {
			time.Sleep(rand.N(30 * time.Millisecond))
			at, err := commitWebhook(ctx, k.conns[n], k.to.url(), 3*i+n, rand.N(70*time.Millisecond))
			commits <- committed{3*i + n, at, err}
		}()
	}
	a, b := <-commits, <-commits
	if err := errors.Join(a.err, b.err); err != nil {
		return nil, nil, 0, err
	}
	others, lost, err = k.arrivals(ctx, a, b)
	return first, others, lost, err
}

// arrivals waits for events that were committed.
func (k *waker) arrivals(ctx context.Context, commits ...committed) (took []float64, lost int, err error) {
	deadline := time.Now().Add(wakeLost)
	for _, c := range commits {
		for k.to.arrived(c.n).IsZero() && time.Now().Before(deadline) {
			if err := k.d.pause(ctx, time.Millisecond); err != nil {
				return nil, 0, err
			}
		}
		at := k.to.arrived(c.n)
		if at.IsZero() {
			lost++
			continue
		}
		took = append(took, ms(at.Sub(c.at)))
	}
	return took, lost, nil
}
