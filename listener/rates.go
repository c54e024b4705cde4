package listener

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Rate is how many attempts may begin in a time. The zero value is no limit.
type Rate struct {
	Count int
	Per   time.Duration
}

// ParseRate reads a rate such as 10/s, 600/m or 1000/h: a whole number from 1 to
// 100000 for each second, minute or hour. "" is the zero Rate.
func ParseRate(text string) (Rate, error) {
	if text == "" {
		return Rate{}, nil
	}
	count, unit, _ := strings.Cut(text, "/")
	per, known := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	n, err := strconv.ParseUint(count, 10, 31)
	if !known || err != nil || n < 1 || n > 100000 {
		return Rate{}, errors.New("a rate has to be such as 10/s, 600/m or 1000/h")
	}
	return Rate{int(n), per}, nil
}

// String is what ParseRate reads.
func (r Rate) String() string {
	unit := map[time.Duration]string{time.Second: "s", time.Minute: "m", time.Hour: "h"}[r.Per]
	if r.Count == 0 {
		return ""
	}
	if unit == "" {
		unit = r.Per.String()
	}
	return fmt.Sprintf("%d/%s", r.Count, unit)
}

// apart is the time between two attempts.
func (r Rate) apart() time.Duration {
	return max(r.Per/time.Duration(max(r.Count, 1)), time.Microsecond)
}

// ahead is how far the theoretical arrival time may be ahead: what may begin at
// once after a while without any is half a second's worth, and one at least.
func (r Rate) ahead() time.Duration {
	return max(time.Duration(float64(rateBurst)/float64(r.apart()))-1, 0) * r.apart()
}

// over is how many may begin in d, one at least.
func (r Rate) over(d time.Duration) int {
	return max(int(math.Ceil(float64(d)/float64(r.apart()))), 1)
}

const (
	rateBurst = 500 * time.Millisecond // the most that is made up for
	slotKeep  = 200 * time.Millisecond // how far ahead slots are reserved, and how long they are kept
	rateHolds = time.Second            // what waits beyond what can be sent in it is put off
	rateLate  = 15 * time.Minute       // the longest that something is put off for: then it is looked at again
)

// slot is the right to begin one attempt, from a moment on and not after another.
type slot struct{ from, until time.Time }

// meter has the slots that this listener has for one destination. All listeners
// together get no more than the rate allows: they take them from the database. nil
// is no limit.
//
// Guarded by the mutex of its queue.
type meter struct {
	rate  Rate
	slots []slot
	ask   time.Time // when there is a point in asking for more
	asked bool      // it is being done
	last  time.Time // when what was put off last is due
}

// open reports whether an attempt may begin now.
func (m *meter) open(now time.Time) bool {
	if m == nil {
		return true
	}
	for len(m.slots) > 0 && now.After(m.slots[0].until) {
		m.slots = m.slots[1:]
	}
	return len(m.slots) > 0 && !now.Before(m.slots[0].from)
}

// take notes that an attempt begins.
func (m *meter) take() {
	if m != nil && len(m.slots) > 0 {
		m.slots = m.slots[1:]
	}
}

// wish is what one destination asks for.
type wish struct {
	key  string
	rate Rate
	most int
}

// grant is what a wish came to: so many slots, the first of them after a while; where
// there are none, that is when the next will be.
type grant struct {
	slots int
	first time.Duration // from when it was asked for; may be below 0
}

// wishes has those destinations begin that may by now, returns what there is to
// be asked for, and how long there is nothing to do then.
func (q *queue) wishes(now time.Time) (all []wish, rest time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	rest = time.Hour
	for d := range q.blocked {
		m := d.meter
		if m == nil || d.flying >= d.window {
			continue // it is ranked when an attempt is over
		}
		if m.open(now) {
			q.rank(d)
			signal(q.ready)
			continue
		}
		switch {
		case len(m.slots) > 0:
			rest = min(rest, m.slots[0].from.Sub(now))
		case m.asked:
		case now.Before(m.ask):
			rest = min(rest, m.ask.Sub(now))
		default:
			m.asked = true
			all = append(all, wish{d.name, m.rate, min(m.rate.over(slotKeep), len(d.waiting))})
		}
	}
	return all, max(rest, 0)
}

// granted gives the destinations what they have asked for. sent and now are when the
// question left and the answer came; nothing is granted where that failed.
func (q *queue) granted(all []wish, grants map[string]grant, sent, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range all {
		d := q.places[w.key]
		if d == nil || d.meter == nil {
			continue
		}
		m := d.meter
		m.asked = false
		g, ok := grants[w.key]
		if !ok || g.slots == 0 {
			m.ask = now.Add(time.Second) // the database is away
			if ok {
				m.ask = now.Add(max(g.first-slotKeep, time.Millisecond))
			}
			continue
		}
		for i := range g.slots {
			at := g.first + time.Duration(i)*m.rate.apart()
			from := now.Add(max(at, 0))
			m.slots = append(m.slots, slot{from, latest(sent.Add(max(at, 0)+slotKeep), from.Add(slotKeep/4))})
		}
		q.rank(d)
	}
	signal(q.ready)
}

// surplus takes out what waits for destinations with a rate, beyond what can be
// sent in about a second, with when it is due again: one after the other, as the rate has it.
// It returns nothing that somebody waits for.
func (q *queue) surplus(now time.Time) (out []putOff) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for d := range q.blocked {
		m := d.meter
		if m == nil {
			continue
		}
		holds := m.rate.over(rateHolds)
		if len(d.waiting) <= holds {
			continue
		}
		kept := d.waiting[:holds:holds]
		for _, j := range d.waiting[holds:] {
			if j.awaited() {
				kept = append(kept, j)
				continue
			}
			m.last = latest(m.last.Add(m.rate.apart()), now.Add(rateHolds))
			wait := m.last.Sub(now)
			if wait > rateLate {
				m.last, wait = now.Add(rateLate), jittered(rateLate)
			}
			out = append(out, putOff{j, wait})
		}
		d.waiting = kept
		q.rank(d)
	}
	return out
}

// waitsItsTurn is the reason of a delivery that is put off by a rate.
func waitsItsTurn(key string, r Rate) string {
	return "waits its turn: " + key + " gets no more than " + r.String()
}
