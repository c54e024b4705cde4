package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// stuck has one delivery that does not end for a minute while events pass. No
// channel of the program is given a minute, so the listener is in a program
// with a channel of its own, as docs/library.md describes: the benchmark
// itself.
func stuck(ctx context.Context, r *run, res *result) error {
	n := r.size(300_000)
	lasts := pick(r, time.Minute, 3*time.Second)
	res.note("%s events pass, %d at a time and evenly within %s, batch 100, while one delivery is in the hands of a worker all the time: before the first of them and after the last, in one attempt. The listener runs in the benchmark's own process, with a channel that is given that long.", number(float64(n)), feedChunk, lasts)
	res.note("%s", claimMethod(r.server))
	for range r.Rounds {
		err := r.server.atRest(ctx, func(db *database) error { return passStuck(ctx, res, n, lasts, db) })
		if err != nil {
			return err
		}
	}
	res.atMost("claim latency, last tenth / first (2–12 %), p99", "x", 1.5, res.drift("p99"))
	return nil
}

// A holder is a sender that keeps what it gets until it is told to let go.
type holder struct {
	got   chan struct{} // gets one for each delivery
	letGo chan struct{} // closed to let go
	ended chan struct{} // gets one for each delivery that has left
}

// Send implements dispatch.Sender.
func (h *holder) Send(ctx context.Context, _ *dispatch.Delivery) (dispatch.Receipt, error) {
	defer func() { h.ended <- struct{}{} }()
	h.got <- struct{}{}
	select {
	case <-h.letGo:
		return dispatch.Receipt{}, nil
	case <-ctx.Done():
		return dispatch.Receipt{}, ctx.Err()
	}
}

// passStuck feeds n events for as long as one is stuck.
func passStuck(ctx context.Context, res *result, n int, lasts time.Duration, db *database) error {
	const attempts = 10 // more than there can be
	h := &holder{make(chan struct{}, attempts), make(chan struct{}), make(chan struct{}, attempts)}
	w, err := watchClaims(ctx, db)
	if err != nil {
		return err
	}
	defer w.stop()
	p, err := startProgram(ctx, db, "stuck", h, 2*lasts+time.Minute)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := db.asleep(ctx, p); err != nil {
		return err
	}
	seq, err := value[int64](ctx, db, `insert into public.outbox_events (type, payload) values ('stuck', '{}') returning seq`)
	if err != nil {
		return err
	}
	select {
	case <-h.got:
	case <-time.After(time.Minute):
		return errors.New("the event that should be stuck did not begin within a minute")
	case <-ctx.Done():
		return ctx.Err()
	}
	held := time.Now()
	f, err := db.feed(ctx, p, n, lasts)
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
		if err := p.pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	took := time.Since(held)
	if len(h.got) > 0 || len(h.ended) > 0 || took < lasts {
		return fmt.Errorf("of %s that one event was to be stuck, it was not all the time: %d more attempts began and %d ended within %s",
			lasts, len(h.got), len(h.ended), took)
	}
	close(h.letGo)
	if err := db.processed(ctx, p, seq); err != nil {
		return err
	}
	attempt, err := value[int](ctx, db, `select attempts from outbox.deliveries where event_seq = $1 and state = 'delivered'`, seq)
	if err != nil || attempt != 1 {
		return fmt.Errorf("the stuck event was delivered at attempt %d: %w", attempt, err)
	}
	if err := res.claimDrift(ctx, w, f); err != nil {
		return err
	}
	res.detail("stuck meanwhile for", "s", took.Seconds())
	return nil
}
