package listener

import (
	"math/rand/v2"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// The waits between attempts: the ceiling triples from 10 s up to 12 h, and
// each wait is drawn evenly from below it (full jitter), so that deliveries
// that failed together do not come back together. Twelve attempts span about
// a day: the ceilings add up to 45 h, the mean is half of that.
const (
	firstCeiling = 10 * time.Second
	lastCeiling  = 12 * time.Hour
)

// ceiling returns the longest wait after attempt n, the first being 1, where
// the route says nothing else.
func ceiling(n int, r dispatch.Retries) time.Duration {
	c, last := firstCeiling, lastCeiling
	if r.First > 0 {
		c = r.First
	}
	if r.Longest > 0 {
		last = r.Longest
	}
	for i := 1; i < n && c < last; i++ {
		c *= 3
	}
	return min(c, last)
}

// backoff returns how long to wait after attempt n. It is never shorter than
// atLeast, what the provider asked for; a tenth is added to that at random.
func backoff(n int, atLeast time.Duration, r dispatch.Retries) time.Duration {
	wait := rand.N(ceiling(n, r))
	if wait < atLeast {
		wait = atLeast + rand.N(atLeast/10+1)
	}
	return wait
}

// pause returns the wait before try n at the database, the first being 1:
// full jitter below a ceiling that doubles from 100 ms to 3 s.
func pause(n int) time.Duration {
	c := 100 * time.Millisecond << min(n-1, 5)
	return rand.N(min(c, 3*time.Second)) + 10*time.Millisecond
}
