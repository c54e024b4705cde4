package bench

import (
	"context"
	"fmt"
	"time"
)

// slow has one receiver of 21 that never answers, and looks at the others.
func slow(ctx context.Context, r *run, res *result) error {
	const others = 20
	each := r.size(3000)
	const answer = 2 * time.Millisecond
	res.note("%d receivers that answer in %s, %d webhooks for each, and in one of two variants as many for one more that takes requests and never answers, until the sender gives up after 15 s. All wait when the listener starts, in turn. Rate of the others: from the listener's first connection to their last arrival.", others, answer, each)
	label := map[bool]string{false: ours + ", without it", true: ours + ", beside one that hangs"}
	for range r.Rounds {
		for _, hanging := range []bool{false, true} {
			rate, err := r.besideSlow(ctx, others, each, answer, hanging)
			if err != nil {
				return err
			}
			res.add(label[hanging], "webhooks/s", rate)
		}
	}
	res.atLeast("rate of the others, beside one that hangs / without it", "x", 0.9, ratios(res.values(label[true]), res.values(label[false])))
	return nil
}

// besideSlow returns the webhooks a second that those receivers get which
// answer.
func (r *run) besideSlow(ctx context.Context, others, each int, answer time.Duration, hanging bool) (float64, error) {
	total := others
	if hanging {
		total++
	}
	n := total * each
	var sinks []*sink
	var urls []string
	for i := range total {
		s, err := startSink(&sink{delay: answer, hang: i == others, at: arrivals(n)})
		if err != nil {
			return 0, err
		}
		defer s.close()
		sinks, urls = append(sinks, s), append(urls, s.url())
	}
	db, err := r.server.filled(ctx, n, payload, urls...)
	if err != nil {
		return 0, err
	}
	defer db.drop()
	d, err := r.launch(db, nil)
	if err != nil {
		return 0, err
	}
	defer d.kill() // an orderly stop would wait for what hangs
	deadline := time.Now().Add(2 * time.Minute)
	for {
		arrived := int64(0)
		for _, s := range sinks[:others] {
			arrived += s.distinct.Load()
		}
		if arrived == int64(others*each) {
			break
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("only %d of %d webhooks for the receivers that answer arrived within 2 min", arrived, others*each)
		}
		if err := d.pause(ctx, 10*time.Millisecond); err != nil {
			return 0, err
		}
	}
	var last time.Time
	for i, s := range sinks[:others] {
		for n := i; n < len(s.at); n += total {
			if at := s.arrived(n); at.After(last) {
				last = at
			}
		}
		if s.again.Load() > 0 {
			return 0, fmt.Errorf("%d webhooks arrived again", s.again.Load())
		}
	}
	begun, err := db.firstConnection(ctx)
	if err != nil {
		return 0, err
	}
	return float64(others*each) / last.Sub(begun).Seconds(), nil
}
