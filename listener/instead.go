package listener

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// standsIn reports whether j is sent only where another step did not arrive, and that
// is to be seen yet: before its first attempt. What a person replays is sent in any
// case.
func (j *job) standsIn() bool {
	return j.terms().InsteadOf != "" && j.attempts == 0 && !j.state.Terminal() && j.state != dispatch.Held
}

// byItself has j sent whatever became of another step.
func (j *job) byItself() {
	if j.terms().InsteadOf != "" {
		terms := *j.terms()
		terms.InsteadOf = ""
		j.Terms = &terms
	}
}

// awaitWord says when the deliveries of e that stand in for others are judged, unless
// there is word before: when the time is over in which that may come. Those whose step
// is over in this plan, or was before, are judged at once.
func (l *Listener) awaitWord(e *event) {
	for _, j := range e.jobs {
		if !j.standsIn() || j.outcome == nil || j.outcome.State != dispatch.Scheduled {
			continue
		}
		open := slices.ContainsFunc(e.jobs, func(o *job) bool {
			return o.Route == j.Route && o.Step == j.terms().InsteadOf && (o.outcome == nil || !o.outcome.State.Terminal())
		})
		if open && !j.known {
			j.wait = l.cfg.AwaitReport + max(0, j.terms().At.Sub(l.cfg.Clock.Now()))
		}
	}
}

// called reports whether j is to be sent now, since the step that it stands in for did
// not arrive; where not, it has ended j, or put it off.
func (l *Listener) called(ctx context.Context, j *job) bool {
	step := j.terms().InsteadOf
	st, err := l.store.standing(ctx, j)
	if err != nil {
		l.sparse.warn("delivery not judged that stands in for another; trying again", err)
		j.idle = true
		l.finish(j, dispatch.Outcome{State: dispatch.Scheduled, MinWait: renderAgain})
		return false
	}
	j.judged = &st
	send, skip, wait := st.Instead(step, l.cfg.AwaitReport)
	switch {
	case send:
		return true
	case skip != "":
		l.finish(j, dispatch.Outcome{State: dispatch.Skipped, Reason: skip})
	default:
		j.idle = true
		l.finish(j, dispatch.Outcome{State: dispatch.Scheduled, MinWait: wait})
	}
	return false
}

// recall has those of entries due again that were put off by a judgment which does not hold
// any more, in the transaction of b.
func (s *store) recall(b *pgx.Batch, entries []entry, recalled *int) {
	var ids uuids
	var states, receipts []string
	for _, en := range entries {
		if j := en.job; j.judged != nil && j.outcome != nil && j.outcome.State == dispatch.Scheduled {
			ids.add(j.ID)
			states, receipts = append(states, string(j.judged.State)), append(receipts, string(j.judged.Fate))
		}
	}
	if len(ids) > 0 {
		b.Queue(sqlRecallInstead, ids, states, receipts).Query(func(rows pgx.Rows) error {
			return eachID(rows, func(uuid.UUID) { *recalled++ })
		})
	}
}

// standing reads how the step stands that j is sent instead of.
func (s *store) standing(ctx context.Context, j *job) (st dispatch.Standing, err error) {
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlInsteadOf, j.seq, j.Route, j.terms().InsteadOf).Query(func(rows pgx.Rows) error {
			var over float64
			_, err := pgx.ForEachRow(rows, []any{&st.State, &st.Fate, &st.Code, &st.Unclear, &over}, func() error {
				st.Over = time.Duration(over * float64(time.Second))
				return nil
			})
			return err
		})
	})
	if err != nil {
		return dispatch.Standing{}, fmt.Errorf("instead of what: %w", err)
	}
	return st, nil
}
