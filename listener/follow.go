package listener

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// answer is what the provider answered to j, where later steps may use it.
func (j *job) answer(plain bool) []byte {
	if plain || j.outcome == nil || j.outcome.State != dispatch.Delivered {
		return nil
	}
	return j.outcome.Receipt.Answer
}

// mayBeFollowed reports whether another delivery may wait for j.
func (j *job) mayBeFollowed() bool {
	return j.Route != "direct" && j.Route != "handler" && j.outcome != nil && j.outcome.State.Terminal()
}

// mayBeSuperseded reports whether a newer event may have superseded j while j was sent,
// so that it is not sent again, as which it is recorded in state s.
func (j *job) mayBeSuperseded(s dispatch.State) bool {
	return j.terms().Supersedes != "" && (s == dispatch.Retry || s == dispatch.Ready && j.announced)
}

// releaseFollowers makes due what waited for the deliveries ids, and counts it.
func (s *store) releaseFollowers(b *pgx.Batch, ids uuids, released *int) {
	b.Queue(sqlReleaseFollowers, ids).Query(func(rows pgx.Rows) error {
		return eachID(rows, func(uuid.UUID) { *released++ })
	})
}

// tellDue has the listener look at once for what a transaction made due.
func (s *store) tellDue(err error, released int) {
	if err == nil && released > 0 && s.due != nil {
		s.due()
	}
}

// renderAgain is when a delivery is rendered again that could not be now.
const renderAgain = 5 * time.Second

// render gives j its content, now that what it waited for is over, and freezes
// it. It reports whether j can be sent; where not, it has ended j.
func (l *Listener) render(ctx context.Context, j *job) bool {
	steps, err := l.store.stepResults(ctx, j)
	if err == nil {
		var m dispatch.Message
		if m, err = l.cfg.Dispatcher.Render(ctx, j.Message, steps); err == nil {
			m.Route, m.Step, m.Channel = j.Route, j.Step, j.Channel // what it is on record as
			j.Message = m
		}
	}
	if err != nil {
		l.sparse.warn("delivery not rendered; trying again", err)
		l.finish(j, j.notBegun(renderAgain))
		return false
	}
	o, settled := j.settled()
	if !settled && j.Content == nil {
		o, settled = dispatch.Outcome{State: dispatch.Dead, Reason: "its route rendered nothing", Attempts: j.attempts}, true
	}
	if settled {
		l.finish(j, o)
		return false
	}
	kept, err := l.store.freezeDelivery(ctx, j)
	if err != nil || !kept {
		if err != nil {
			l.sparse.warn("delivery not frozen; trying again", err)
		}
		l.handBack(j)
		return false
	}
	return true
}

// stepResults reads what came of the steps that j waited for.
func (s *store) stepResults(ctx context.Context, j *job) (map[string]dispatch.StepResult, error) {
	out := map[string]dispatch.StepResult{}
	err := s.tx(ctx, forgetable, func(b *pgx.Batch) {
		b.Queue(sqlStepResults, j.seq, j.Route, j.terms().After).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var step string
				var r dispatch.StepResult
				var answer *string
				if err := rows.Scan(&step, &r.State, &answer); err != nil {
					return err
				}
				if answer != nil {
					r.Answer = json.RawMessage(*answer)
				}
				out[step] = r
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("results of steps: %w", err)
	}
	return out, nil
}

// freezeDelivery puts the content of j on record; false where j is no longer
// ours.
func (s *store) freezeDelivery(ctx context.Context, j *job) (kept bool, err error) {
	err = s.tx(ctx, durable, func(b *pgx.Batch) {
		b.Queue(sqlFreezeDelivery, [16]byte(j.ID), [16]byte(j.lease.claim), text(j.Content),
			clean(dispatch.Mask(j.Channel, j.Recipient)), nonEmpty(clean(j.terms().Copy))).Query(func(rows pgx.Rows) error {
			kept = rows.Next()
			return rows.Err()
		})
	})
	if err != nil {
		return false, fmt.Errorf("freeze delivery: %w", err)
	}
	return kept, nil
}
