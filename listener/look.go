package listener

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// looked is one look for a delivery, as the column looks has it.
type looked struct {
	Attempt int              `json:"attempt"`
	At      time.Time        `json:"at"`
	Verdict dispatch.Verdict `json:"verdict"`
}

// traces are what the ledger knows of a delivery before its provider is asked.
type traces struct {
	held       bool          // it is still ours
	providerID string        // what an earlier look found it to be; "" where none did
	likeness   *int32        // what it was alike by when it was announced; nil where its provider could not be asked
	since      time.Duration // how long ago it was first attempted
	looks      []looked
	now        time.Time // on the database's clock
}

// look asks the provider of j, an attempt at which may have been taken, whether it
// has it, and says what follows. It needs no hand between one look and the next: what
// is looked for again is due again. A crash at any moment leaves the delivery as
// it was, and what was found is on record before it is called delivered.
func (l *Listener) look(ctx context.Context, j *job) verdict {
	if !l.mayBegin(ctx, j) {
		return nothing
	}
	before, err := l.store.traces(ctx, j)
	switch {
	case err != nil:
		l.sparse.warn("delivery of unknown outcome not looked for; trying again", err)
		l.finish(j, j.notBegun(renderAgain))
		return nothing
	case !before.held:
		l.handBack(j) // the record finds the same
		return nothing
	case before.providerID != "": // found before a crash
		l.settleLook(j, dispatch.VerdictFound, dispatch.Receipt{ProviderID: before.providerID}, "")
		return nothing
	}
	sent, held := l.cfg.Redirect.Apply(&j.Delivery)
	if held != "" {
		j.withheld = true
		l.finish(j, dispatch.Outcome{State: dispatch.Held, Reason: held, Attempts: j.attempts, Err: j.crashed()})
		return nothing
	}
	j.redirected = sent != &j.Delivery
	if alike, ok := l.cfg.Dispatcher.Likeness(sent); !ok || before.likeness == nil || *before.likeness != alike {
		l.settleLook(j, dispatch.VerdictInconclusive, dispatch.Receipt{}, "what was sent cannot be told from the configuration of today")
		return nothing
	}
	begun := time.Now()
	found, failed := l.cfg.Dispatcher.Find(ctx, sent, begun.Add(-before.since))
	j.took = time.Since(begun)
	l.logPanic(j, failed)
	if failed != nil && ctx.Err() != nil { // cut short by the shutdown
		if failed.RetryAfter > 0 {
			l.heed(j, begun, failed)
		}
		l.handBack(j)
		return nothing
	}
	asked := l.heed(j, begun, failed)
	failpoint.Hit("K14a")
	v, r, why := dispatch.VerdictFailed, dispatch.Receipt{}, ""
	if failed == nil {
		// Whose answer may still come is asked after the list was read: what is in
		// it was announced before.
		var others []dispatch.Claimant
		if others, err = l.store.alike(ctx, j, *before.likeness, before.since); err == nil {
			v, r, why = dispatch.Judge(found, j.attempts, others)
		}
	} else {
		why = failed.Error()
	}
	if err == nil {
		err = l.keepLook(ctx, j, *before.likeness, v, r, why)
	}
	if err != nil {
		l.sparse.warn("look not on record; looking again", err)
		l.finish(j, j.notBegun(renderAgain))
		return nothing
	}
	failpoint.Hit("K14b")
	l.concludeLook(j, before, v, r, why, failed)
	return asked
}

// crashed is the failure of an attempt that has no record yet, or nil where it has
// one.
func (j *job) crashed() *dispatch.Error {
	if j.state == dispatch.Sending {
		return j.unknown()
	}
	return nil
}

// concludeLook says what follows from a look that is on record.
func (l *Listener) concludeLook(j *job, before traces, v dispatch.Verdict, r dispatch.Receipt, why string, failed *dispatch.Error) {
	if v == dispatch.VerdictFound {
		l.settleLook(j, v, r, why)
		return
	}
	answers, failures, first := 0, 0, before.now
	for _, k := range before.looks {
		switch {
		case k.Attempt != j.attempts:
		case k.Verdict == dispatch.VerdictFailed:
			failures++
		default:
			if answers++; k.At.Before(first) {
				first = k.At
			}
		}
	}
	var next time.Duration
	if v == dispatch.VerdictFailed {
		failures++
		if failures >= l.cfg.MaxAttempts {
			l.settleLook(j, v, r, "it did not answer when it was asked: "+why)
			return
		}
		next = backoff(failures, failed.RetryAfter, dispatch.Retries{First: max(l.lastLook()/6, 100*time.Millisecond)})
	} else {
		answers++
		var again bool
		if next, again = l.nextLook(answers, before.now.Sub(first)); !again {
			l.settleLook(j, v, r, why)
			return
		}
	}
	why = clean(dispatch.MaskText(why))
	reason := "no clear answer came, and the provider does not have it yet"
	switch {
	case v == dispatch.VerdictFailed:
		reason = "no clear answer came, and the provider did not say whether it has it: " + why
	case why != "":
		reason = "no clear answer came, and the provider cannot tell: " + why
	}
	j.looked = v
	l.finish(j, dispatch.Outcome{State: dispatch.Uncertain, Reason: reason, Attempts: j.attempts, MinWait: next, Err: j.crashed()})
}

// nextLook says when to look again after so many looks that were answered, the
// first of them age ago; false where that was the last one.
func (l *Listener) nextLook(answers int, age time.Duration) (wait time.Duration, again bool) {
	plan, last := l.cfg.LookAfter, l.lastLook()
	if answers >= len(plan) && age >= last-last/10 {
		return 0, false
	}
	at := plan[min(answers, len(plan)-1)]
	return max(at+rand.N(at/10+1)-age, 0), true
}

// lastLook is when the last look is planned, from the first one on.
func (l *Listener) lastLook() time.Duration { return l.cfg.LookAfter[len(l.cfg.LookAfter)-1] }

// settleLook ends the looks for j.
func (l *Listener) settleLook(j *job, v dispatch.Verdict, r dispatch.Receipt, why string) {
	j.looked = v
	o := dispatch.Settle(l.policy(j), j.attempts, l.limit(j), j.expired, v, r, clean(dispatch.MaskText(why)))
	if o.State != dispatch.Delivered {
		o.Err = j.crashed()
	}
	l.finish(j, o)
}

// keepLook puts a look on record, and with it what was found, before anything
// follows from it.
func (l *Listener) keepLook(ctx context.Context, j *job, likeness int32, v dispatch.Verdict, r dispatch.Receipt, why string) error {
	kept, err := l.store.noteLook(ctx, j, likeness, v, r, clean(dispatch.MaskText(why)))
	switch {
	case err != nil:
		return err
	case !kept && r.ProviderID != "":
		return fmt.Errorf("another delivery was found to be %s, or this one was taken over", r.ProviderID)
	}
	if j.event != nil {
		j.event.mu.Lock()
		defer j.event.mu.Unlock()
	}
	j.found = r.ProviderID
	return nil
}

// traces reads what is known of j.
func (s *store) traces(ctx context.Context, j *job) (t traces, err error) {
	var since float64
	var looks string
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlLookBegin, [16]byte(j.ID), [16]byte(j.lease.claim)).Query(func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&t.providerID, &t.likeness, &since, &looks, &t.now}, func() error {
				t.held = true
				return nil
			})
			return err
		})
	})
	if err != nil || !t.held {
		return t, err
	}
	t.since = time.Duration(since * float64(time.Second))
	if err := json.Unmarshal([]byte(looks), &t.looks); err != nil {
		return t, fmt.Errorf("the column looks: %w", err)
	}
	return t, nil
}

// alike reads the deliveries that j may be taken for, or that may be taken for j,
// where j was first attempted since ago.
func (s *store) alike(ctx context.Context, j *job, likeness int32, since time.Duration) (others []dispatch.Claimant, err error) {
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlLookAlike, [16]byte(j.ID), likeness, (since + alikeSlack).Seconds()).Query(func(rows pgx.Rows) error {
			var c dispatch.Claimant
			_, err := pgx.ForEachRow(rows, []any{&c.State, &c.Attempts, &c.ProviderID}, func() error {
				others = append(others, c)
				return nil
			})
			return err
		})
	})
	return others, err
}

// alikeSlack is for what was created a little before j was attempted, as the
// provider's clock has it, and for what was recorded late.
const alikeSlack = time.Minute

// noteLook writes a look; false where j is no longer ours, or what was found is
// another delivery already.
func (s *store) noteLook(ctx context.Context, j *job, likeness int32, v dispatch.Verdict, r dispatch.Receipt, why string) (kept bool, err error) {
	err = s.tx(ctx, durable, func(b *pgx.Batch) {
		if r.ProviderID != "" {
			b.Queue(sqlLockLikeness, likeness)
		}
		b.Queue(sqlNoteLook, [16]byte(j.ID), [16]byte(j.lease.claim), j.took.Seconds(), string(v), why, clean(r.ProviderID), likeness).
			Query(func(rows pgx.Rows) error { return eachID(rows, func(uuid.UUID) { kept = true }) })
	})
	return kept, err
}
