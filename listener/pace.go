package listener

import "time"

// pace measures how much gets done, and says how much to hold so that nobody
// waits for the next claim: what will be done while claims and records are on
// their way. A listener whose receivers are slow so claims little and leaves
// the rest to others; one that discards reads far ahead. The zero value has
// seen nothing.
type pace struct {
	since time.Time
	count int
	rate  float64 // done in a second
}

const (
	paceWindow = 50 * time.Millisecond
	horizon    = 50 * time.Millisecond // longer than a claim and a record take
	mostAhead  = 4096
)

// done notes that n are on record.
func (p *pace) done(n int) {
	now := time.Now()
	if p.since.IsZero() {
		p.since = now
	}
	p.count += n
	if d := now.Sub(p.since); d >= paceWindow {
		old := p.rate
		if d >= 10*paceWindow {
			old = 0 // of a time long past
		}
		p.rate = (old + float64(p.count)/d.Seconds()) / 2
		p.since, p.count = now, 0
	}
}

func (p *pace) ahead() int { return min(int(p.rate*horizon.Seconds()), mostAhead) }
