package listener

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// forgetRatesEvery is how often rates are deleted that nobody has asked about for
// long.
const forgetRatesEvery = time.Hour

// keepRates has slots for what waits, until ctx ends.
func (l *Listener) keepRates(ctx context.Context) {
	if len(l.cfg.Rates) == 0 {
		return
	}
	through, cancel := throughStop(ctx)
	defer cancel()
	var forgotten time.Time
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		all, rest := l.queue.wishes(time.Now())
		if len(all) > 0 {
			forget := time.Since(forgotten) > forgetRatesEvery
			sent := time.Now()
			grants, err := l.store.reserve(through, all, forget)
			if err != nil {
				l.sparse.warn("how fast may be sent is not known; nothing is sent where a rate is set", err)
			} else if forget {
				forgotten = sent
			}
			l.queue.granted(all, grants, sent, time.Now())
			continue
		}
		timer.Reset(rest)
		select {
		case <-ctx.Done():
			return
		case <-l.queue.short:
		case <-timer.C:
		}
	}
}

// putOffSurplus puts off what comes faster than a rate lets it go.
func (l *Listener) putOffSurplus() {
	if len(l.cfg.Rates) == 0 {
		return
	}
	for _, p := range l.queue.surplus(time.Now()) {
		o := p.job.notBegun(p.wait)
		o.Reason = waitsItsTurn(p.job.destination, p.job.rate)
		l.finish(p.job, o)
	}
}

// reserve asks for slots.
func (s *store) reserve(ctx context.Context, all []wish, forget bool) (map[string]grant, error) {
	var keys []string
	var apart, ahead []float64
	var most []int32
	rates := map[string]Rate{}
	for _, w := range all {
		keys, most = append(keys, w.key), append(most, int32(w.most))
		apart, ahead = append(apart, w.rate.apart().Seconds()), append(ahead, w.rate.ahead().Seconds())
		rates[w.key] = w.rate
	}
	grants := map[string]grant{}
	err := s.tx(ctx, forgetable, func(b *pgx.Batch) {
		if forget {
			b.Queue(sqlForgetRates)
		}
		b.Queue(sqlReserveSlots, keys, apart, ahead, most, slotKeep.Seconds()).Query(func(rows pgx.Rows) error {
			var key string
			var n int
			var after float64
			_, err := pgx.ForEachRow(rows, []any{&key, &n, &after}, func() error {
				r := rates[key]
				grants[key] = grant{n, fromSeconds(after) - time.Duration(n)*r.apart() - r.ahead()}
				return nil
			})
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reserve slots: %w", err)
	}
	return grants, nil
}
