package dispatch

import (
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	t.Parallel()
	var c Clock
	near := func(want time.Time) bool { off := c.Now().Sub(want); return off > -time.Minute && off < time.Minute }
	if !near(time.Now()) {
		t.Errorf("not set: %s", c.Now())
	}
	database := time.Now().Add(-90 * time.Minute).Round(0) // as it comes from there, without a monotonic reading
	c.Set(database)
	if first := c.Now(); !near(database) || first.Before(database) || c.Now().Before(first) {
		t.Errorf("set to %s: %s", database, c.Now())
	}
}
