package listener

import (
	"context"
	"time"
)

// idleEvery is how often what comes round while something is in hand does so while nothing is, whatever it
// was not told of.
const idleEvery = 5 * time.Second

// comeRound waits until it is time to come round again, every so often. Where idle says that there is nothing to do, it
// rests before that, until it is woken: a processor that is to sleep takes longer to get up than what it gets up for.
// It returns false when ctx ended.
func comeRound(ctx context.Context, every time.Duration, idle bool, woken <-chan struct{}) bool {
	if idle {
		rest(ctx, idleEvery, woken)
	}
	wait(ctx, every)
	return ctx.Err() == nil
}

// wait sleeps for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) { rest(ctx, d, nil) }

// rest is wait that ends when woken, too.
func rest(ctx context.Context, d time.Duration, woken <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-woken:
	case <-timer.C:
	}
}
