package listener

import (
	"context"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// soonAnyway is how long something may be put off for that nobody need make due sooner:
// the next round would not be there before.
const soonAnyway = time.Second

// heldLate looks at j, which ended with o and is due in wait, when that has been put
// on record. Where it is held back for a reason that has ended meanwhile, what waits for
// that reason may have been made due before j was there to be found; so that is done once
// more. While we do not know of the end yet, we do it when we hear of it.
//
// That j was fenced off says nothing: the answer to the record may have been lost.
func (l *Listener) heldLate(j *job, o *dispatch.Outcome, wait time.Duration) {
	switch {
	case !j.paused || wait <= soonAnyway:
	case j.provider != "" && o.Reason == HeldBy(j.provider):
		if !l.brakes.has(j.provider) {
			l.recovery.again(j.provider)
			signal(l.brakes.free) // who sees to it may rest, since this was the last that we had
		}
	case !l.paused.now.Load().has(o.Reason):
		l.paused.ends.again(o.Reason)
	}
}

// resumeRest does, on the way out, what would be with the next round. A database that
// hangs does not hold up the stop for that: the rest is due at its own time, or others see to it.
func (l *Listener) resumeRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, seenThrough)
	defer cancel()
	l.resumeBraked(ctx, true)
	l.makeDue(ctx, &l.paused.ends, nil, pauseOver)
}
