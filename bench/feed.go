package bench

import (
	"context"
	"fmt"
	"time"
)

// A fed is what feeding events to a listener showed.
type fed struct {
	begun, ended time.Time
}

// feedChunk is how many events one statement inserts, and the batch of the
// listener that takes them: so that claims of the beginning and of the end have
// as much to do, each chunk waits until the one before is done.
const feedChunk = 100

// feed inserts n events that are discarded, chunk by chunk, at the pace at
// which the listener takes them, but evenly over that time where it would take
// less.
func (db *database) feed(ctx context.Context, l running, n int, over time.Duration) (fed, error) {
	f := fed{begun: time.Now()}
	for done := 0; done < n; {
		some := min(n-done, feedChunk)
		newest, err := value[int64](ctx, db, `
			with rows as (
				insert into public.outbox_events (type, payload)
				select 'discard.send', jsonb_build_object('n', n, 'text', repeat('x', $2::int)) from generate_series(1, $1::int) as n
				returning seq)
			select max(seq) from rows`, some, payload-30)
		if err != nil {
			return f, err
		}
		if err := db.processed(ctx, l, newest); err != nil {
			return f, err
		}
		done += some
		if early := time.Until(f.begun.Add(time.Duration(float64(over) * float64(done) / float64(n)))); early > 0 {
			if err := l.pause(ctx, early); err != nil {
				return f, err
			}
		}
	}
	f.ended = time.Now()
	return f, nil
}

// processed waits for one event by its number; 0 for none.
func (db *database) processed(ctx context.Context, l running, seq int64) error {
	for seq != 0 {
		done, err := value[bool](ctx, db, `select processed_at is not null from public.outbox_events where seq = $1`, seq)
		if err != nil || done {
			return err
		}
		if err := l.pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// driftMethod says in a report what is compared.
const driftMethod = "First tenth: the claims that ended between 2 and 12 % of the time of the feeding; last tenth: those from 90 % on. The first 2 %, when nothing is cached yet, are in neither; they are below by themselves, with their ratio."

// parts returns the very beginning of the feeding, and its first and last tenth.
func (f fed) parts() (beginning, first, last [2]time.Time) {
	whole := f.ended.Sub(f.begun)
	at := func(part float64) time.Time { return f.begun.Add(time.Duration(part * float64(whole))) }
	return [2]time.Time{f.begun, at(0.02)}, [2]time.Time{at(0.02), at(0.12)}, [2]time.Time{at(0.9), f.ended}
}

// claimDrift notes what claims took at the beginning and at the end of the
// feeding.
func (res *result) claimDrift(ctx context.Context, w *claimWatch, f fed) error {
	res.note("%s", driftMethod)
	beginning, first, last := f.parts()
	cold, err := w.between(ctx, 0, beginning[0], beginning[1])
	if err != nil {
		return err
	}
	a, err := w.between(ctx, 0, first[0], first[1])
	if err != nil {
		return err
	}
	b, err := w.between(ctx, 0, last[0], last[1])
	if err != nil {
		return err
	}
	if len(a.brought) == 0 || len(b.brought) == 0 {
		return fmt.Errorf("of the claims that were seen, %d of the first tenth and %d of the last brought something", len(a.brought), len(b.brought))
	}
	for _, p := range []float64{90, 99} {
		res.add(fmt.Sprintf("%s, claim p%g, first tenth", ours, p), "ms", percentile(a.brought, p))
		res.add(fmt.Sprintf("%s, claim p%g, last tenth", ours, p), "ms", percentile(b.brought, p))
		if len(cold.brought) > 0 { // of few claims there may be none
			res.detail(fmt.Sprintf("claim p%g, first 2 %%", p), "ms", percentile(cold.brought, p))
			res.detail(fmt.Sprintf("claim p%g, last tenth / first 2 %%", p), "x", percentile(b.brought, p)/percentile(cold.brought, p))
		}
	}
	for _, part := range []struct {
		name string
		claimTimes
	}{{"first 2 %", cold}, {"first tenth", a}, {"last tenth", b}} {
		res.detail("claims that brought something, "+part.name, "", float64(len(part.brought)))
		res.detail("claims that found nothing, "+part.name, "", float64(len(part.empty)))
		if len(part.empty) > 0 {
			res.detail("claims that found nothing, p99, "+part.name, "ms", percentile(part.empty, 99))
		}
	}
	return nil
}

// drift is the ratio of the last tenth to the first, for "p90" or "p99".
func (res *result) drift(p string) []float64 {
	return ratios(res.values(ours+", claim "+p+", last tenth"), res.values(ours+", claim "+p+", first tenth"))
}
