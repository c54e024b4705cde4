package bench

import (
	"context"
	"fmt"
)

// webhooks compares the delivery of a backlog of webhooks, each signed and
// each for one event. The receiver is in this process.
func webhooks(ctx context.Context, r *run, res *result) error {
	n := r.size(30_000)
	res.note(drainMethod)
	res.note("%s webhooks to a receiver in the benchmark's own process, which answers 204 at once. The listener signs each one (HMAC-SHA256) and has its defaults: batch 10, 16 workers.", number(float64(n)))
	label := ours + ", default batch"
	large := ours + ", batch 1000"
	for range r.Rounds {
		for _, v := range []struct {
			label string
			env   vars
		}{{label, nil}, {large, batch(1000)}} {
			err := withSink(n, func(to *sink) error {
				rate, err := r.drainOurs(ctx, n, payload, v.env, to.url())
				if err != nil {
					return err
				}
				res.add(v.label, "webhooks/s", rate)
				return to.complete(n)
			})
			if err != nil {
				return err
			}
		}
		if p := r.peer(river); p != nil {
			err := withSink(n+1, func(to *sink) error { // its numbers may begin with 1
				rate, err := p.drain(ctx, r.server, n, payload, to.url())
				if err != nil {
					return err
				}
				res.add(river, "webhooks/s", rate)
				return to.complete(n)
			})
			if err != nil {
				return err
			}
		}
	}
	res.atLeast("listener / River, defaults", "x", 2, ratios(res.values(label), res.values(river)))
	return nil
}

// withSink runs f with a sink for the numbers from 0 to n-1.
func withSink(n int, f func(*sink) error) error {
	to, err := newSink(n)
	if err != nil {
		return err
	}
	defer to.close()
	return f(to)
}

// complete fails unless exactly n numbers arrived, each once.
func (s *sink) complete(n int) error {
	if got, again, other := s.distinct.Load(), s.again.Load(), s.other.Load(); got != int64(n) || again != 0 || other != 0 {
		return fmt.Errorf("of %d requests %d arrived, %d more than once, and %d of another kind", n, got, again, other)
	}
	return nil
}
