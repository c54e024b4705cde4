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
	res.note("%s webhooks to a receiver in the benchmark's own process, which answers 204 at once. The listener signs each one (HMAC-SHA256) and has its defaults: batch 10, 32 workers; it logs as the peers do, what goes wrong, and in one variant a line for each webhook, as by default (OUTBOX_LOG_LEVEL=info), to a pipe.", number(float64(n)))
	res.note(untunedMethod + " The faster of River with 1,000 and with 100 workers is taken in each round.")
	res.note("%s is a process whose 32 goroutines post the same number of bodies of the same length, with no queue, no database and no signature: what HTTP over loopback allows on this machine in this run.", bareClient)
	label := ours + ", default batch"
	large := ours + ", batch 1000"
	// Numbers may begin with 0 or with 1.
	posting := func(drain func(url string) (float64, error)) func() (float64, error) {
		return func() (rate float64, err error) {
			err = withSink(n+1, func(to *sink) error {
				if rate, err = drain(to.url()); err != nil {
					return err
				}
				return to.complete(n)
			})
			return rate, err
		}
	}
	variants := []variant{
		{label, posting(func(url string) (float64, error) { return r.drainOurs(ctx, n, payload, nil, url) })},
		{ours + ", default batch, a line of log each", posting(func(url string) (float64, error) {
			return r.drainOurs(ctx, n, payload, vars{"OUTBOX_LOG_LEVEL": "info"}, url)
		})},
		{large, posting(func(url string) (float64, error) { return r.drainOurs(ctx, n, payload, batch(1000), url) })},
	}
	for _, name := range []string{river, riverFew, riverUntuned} {
		if p := r.peer(name); p != nil {
			variants = append(variants, variant{name, posting(func(url string) (float64, error) { return p.drain(ctx, r.server, n, payload, url) })})
		}
	}
	if p := r.peer(bareClient); p != nil {
		variants = append(variants, variant{p.name, posting(func(url string) (float64, error) { return p.posts(ctx, n, payload, url) })})
	}
	if err := r.compare(res, "webhooks/s", r.Rounds, variants); err != nil {
		return err
	}
	res.each("a line of log each / none", "x", ratios(res.values(label+", a line of log each"), res.values(label)))
	res.atLeast("listener / the faster River, defaults", "x", 2, ratios(res.values(label), larger(res.values(river), res.values(riverFew))))
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
