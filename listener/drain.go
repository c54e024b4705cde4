package listener

import (
	"context"
	"errors"
	"sync"
)

// ErrNotRunning is what Drain returns before Run has begun or once it ends,
// and when Run ends under it with work left.
var ErrNotRunning = errors.New("listener: not running")

// Drain claims and delivers what is due, at most limit events (0 means all),
// and returns once their outcomes are on record. It works beside Run and
// counts only what it claimed itself.
//
// When ctx ends first, it returns the counts so far and ctx's error; what it
// claimed is finished all the same. When Run ends first, it claims no more and
// returns the counts of what was finished, with ErrNotRunning where Run left
// something that it claimed unfinished. While outcomes cannot be recorded it claims nothing.
func (l *Listener) Drain(ctx context.Context, limit int) (Stats, error) {
	t := newTally()
	if err := l.claimAll(ctx, limit, t); err != nil {
		return t.snapshot(), err
	}
	select {
	case <-t.settled():
		return t.snapshot(), nil
	case <-l.ended:
		select {
		case <-t.settled():
			return t.snapshot(), nil
		default: // what Run left unfinished never settles
			return t.snapshot(), ErrNotRunning
		}
	case <-ctx.Done():
		return t.snapshot(), ctx.Err()
	}
}

// claimAll claims what is due for t, at most limit events, until nothing is
// left or claiming ends.
func (l *Listener) claimAll(ctx context.Context, limit int, t *tally) error {
	claiming, done, err := l.claims.enter()
	if err != nil {
		return err
	}
	defer done()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(claiming, cancel)()

	err = l.claimFor(inner, limit, t)
	if claiming.Err() != nil && ctx.Err() == nil {
		return nil // it is the listener that stops, not the caller
	}
	return err
}

func (l *Listener) claimFor(ctx context.Context, limit int, t *tally) error {
	if err := l.sweep(ctx, false); err != nil {
		return err
	}
	k := &looker{l: l}
	if err := k.sweepEvents(ctx, true); err != nil {
		return err
	}
	for taken, dueDone := 0, false; ; {
		want := l.cfg.BatchSize
		if limit > 0 {
			want = min(want, limit-taken)
		}
		if want == 0 {
			return nil
		}
		room := l.roomToClaim(ctx, want)
		if room == 0 {
			return ctx.Err()
		}
		want = min(want, room)
		if limit > 0 {
			room = min(room, limit-taken)
		}
		var n int
		var exact bool
		var err error
		if dueDone {
			n, exact, err = k.look(ctx, want, room, t)
		} else {
			n, err = l.takeDue(ctx, want, t)
			dueDone = n < want
		}
		if err != nil {
			return err
		}
		taken += n
		if n == 0 && (exact || k.behind) {
			return nil
		}
	}
}

// roomToClaim waits until there is room for n and outcomes can be recorded, for the reason that
// awaitRoom gives. It returns how much room there is; 0 when ctx ends first.
func (l *Listener) roomToClaim(ctx context.Context, n int) int {
	for ctx.Err() == nil { // again and again, since somebody else may have had the room that we were told of
		if free, _ := l.roomSoon(ctx, n); free > 0 {
			return free
		}
	}
	return 0
}

// claims lets callers of Drain claim while the listener runs, and no longer.
type claims struct {
	mu    sync.Mutex
	ctx   context.Context // nil before the listener runs
	ended bool
	open  sync.WaitGroup
}

func (c *claims) begin(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ctx = ctx
}

// enter returns a context that ends when claiming does, and what to call when
// the caller has claimed its last.
func (c *claims) enter() (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil || c.ended {
		return nil, nil, ErrNotRunning
	}
	c.open.Add(1)
	return c.ctx, c.open.Done, nil
}

// end waits until nobody claims any more. The context has been canceled.
func (c *claims) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.open.Wait()
}
