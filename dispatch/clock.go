package dispatch

import (
	"sync/atomic"
	"time"
)

// Clock tells the database's time, which all of its listeners have in common,
// whatever the clocks of their hosts say. Until somebody has Set it, it tells
// the host's. It is safe for use by several goroutines.
type Clock struct{ last atomic.Pointer[reading] }

type reading struct {
	database time.Time
	here     time.Time // when it was read, on the monotonic clock
}

// Set notes that the database's time is now.
func (c *Clock) Set(now time.Time) { c.last.Store(&reading{database: now, here: time.Now()}) }

// Now returns the database's time. It is late by the time that the answer took
// which was Set, and by what the host was suspended for since.
func (c *Clock) Now() time.Time {
	r := c.last.Load()
	if r == nil {
		return time.Now()
	}
	return r.database.Add(time.Since(r.here))
}
