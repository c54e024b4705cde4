package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// slow has one receiver of 21 that never answers, and looks at the others. It
// compares them with the same 20 alone, which is what has a target, and with the
// same 20 beside one more that answers as they do: what is lost there is what one
// more receiver costs, and the rest is because it hangs.
//
// Its webhooks come in bursts, with pauses between: what a listener has learnt of
// a receiver while it was busy may be forgotten in a pause, and what hangs goes on
// coming back in it.
func slow(ctx context.Context, r *run, res *result) error {
	s := slowly{
		others: 20,
		each:   r.size(3000),
		answer: 2 * time.Millisecond,
		pause:  pick(r, 7*time.Second, 500*time.Millisecond),
		lasts:  pick(r, 45*time.Second, time.Second),
	}
	res.note("%d receivers that answer in %s, and in two of three variants one more: one that takes requests and never answers, until the sender gives up after 15 s, or one that answers as the others do. Bursts of %d webhooks for each of them, in turn, come in one transaction each, %s after the one before has arrived, until %s have passed, and three times at least. Rate of the others: of those %[1]d, within the bursts, each from its COMMIT to the last arrival.", s.others, s.answer, s.each, s.pause, s.lasts)
	res.note("Processors idle: of the whole machine, within the bursts, by /proc/stat; what waits for the disk is not idle there.")
	without, beside, control := ours+", without it", ours+", beside one that hangs", ours+", beside one more that answers"
	err := r.compare(res, "webhooks/s", r.Rounds, []variant{
		{without, func() (float64, error) { return r.besideSlow(ctx, res, s, without, noneMore) }},
		{control, func() (float64, error) { return r.besideSlow(ctx, res, s, control, oneAnswers) }},
		{beside, func() (float64, error) { return r.besideSlow(ctx, res, s, beside, oneHangs) }},
	})
	res.each("rate of the others, beside one that hangs / beside one more that answers", "x", ratios(res.values(beside), res.values(control)))
	res.each("rate of the others, beside one more that answers / without it", "x", ratios(res.values(control), res.values(without)))
	res.atLeast("rate of the others, beside one that hangs / without it", "x", 0.9, ratios(res.values(beside), res.values(without)))
	return err
}

// oneMore is what there is beside the receivers that are looked at.
type oneMore int

const (
	noneMore oneMore = iota
	oneAnswers
	oneHangs
)

// slowly says what comes to the receivers of the scenario.
type slowly struct {
	others, each  int           // receivers that answer; webhooks of a burst for each
	answer        time.Duration // they take so long
	pause, lasts  time.Duration // between two bursts; all together, at least
	sinks         []*sink       // one more is the last
	urls          []string
	perBurst, ask int   // webhooks of a burst; of them, those for the others
	ticks         ticks // of the bursts so far
}

// mostBursts is more than there are: pauses alone take longer.
const mostBursts = 20

// besideSlow returns the webhooks a second that the others get.
func (r *run) besideSlow(ctx context.Context, res *result, s slowly, label string, more oneMore) (rate float64, err error) {
	total := s.others
	if more != noneMore {
		total++
	}
	s.perBurst, s.ask = total*s.each, s.others*s.each
	at := arrivals(mostBursts * s.perBurst)
	for i := range total {
		to, err := startSink(&sink{delay: s.answer, hang: i == s.others && more == oneHangs, at: at})
		if err != nil {
			return 0, err
		}
		defer to.close()
		s.sinks, s.urls = append(s.sinks, to), append(s.urls, to.url())
	}
	err = r.server.atRest(ctx, func(db *database) error {
		d, err := r.launchAsleep(ctx, db, nil)
		if err != nil {
			return err
		}
		defer d.kill() // an orderly stop would wait for what hangs
		var busy time.Duration
		begun, bursts := time.Now(), 0
		for ; bursts < 3 || time.Since(begun) < s.lasts; bursts++ {
			if bursts == mostBursts {
				return fmt.Errorf("%d bursts did not last for %s", bursts, s.lasts)
			}
			if bursts > 0 {
				if err := d.pause(ctx, s.pause); err != nil {
					return err
				}
			}
			took, err := s.burst(ctx, db, d, bursts)
			if err != nil {
				return err
			}
			busy += took
		}
		if more != noneMore && s.sinks[s.others].distinct.Load() == 0 {
			return errors.New("nothing came to the receiver that was added")
		}
		if s.ticks.all > 0 { // it is told here
			res.detail("processors idle, "+label, "%", s.ticks.idleShare())
		}
		if more == oneHangs {
			res.detail("a round beside one that hangs", "s", time.Since(begun).Seconds())
			res.detail("bursts in it", "", float64(bursts))
		}
		rate = float64(bursts*s.ask) / busy.Seconds()
		return nil
	})
	return rate, err
}

// burst returns how long burst number i, from 0, takes to arrive at the others.
func (s *slowly) burst(ctx context.Context, db *database, d *daemon, i int) (time.Duration, error) {
	if err := db.fillFrom(ctx, i*s.perBurst, s.perBurst, payload, s.urls...); err != nil {
		return 0, err
	}
	committed := time.Now()
	before, told := processors()
	for {
		arrived := 0
		for _, to := range s.sinks[:s.others] {
			arrived += int(to.distinct.Load())
		}
		if arrived == (i+1)*s.ask {
			break
		}
		if time.Since(committed) > 2*time.Minute {
			return 0, fmt.Errorf("of %d webhooks for the other receivers %d did not arrive within 2 min", s.ask, (i+1)*s.ask-arrived)
		}
		if err := d.pause(ctx, 10*time.Millisecond); err != nil {
			return 0, err
		}
	}
	if after, err := processors(); err == nil && told == nil {
		s.ticks = s.ticks.plus(after.since(before))
	}
	var last time.Time
	for n := i * s.perBurst; n < (i+1)*s.perBurst; n++ {
		to := n % len(s.urls)
		if to == s.others {
			continue
		}
		if at := s.sinks[to].arrived(n); at.After(last) {
			last = at
		}
	}
	for _, to := range s.sinks[:s.others] {
		if again := to.again.Load(); again > 0 {
			return 0, fmt.Errorf("%d webhooks arrived again", again)
		}
	}
	return last.Sub(committed), nil
}
