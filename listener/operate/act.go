package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-listener/outbox-listener/listener"
)

// run is one Do under way.
type run struct {
	Request
	id      uuid.UUID // in the audit
	refused map[string]int
	result  *Result
	next    time.Time // when the next replay is due; zero is now
}

func (w *run) sum() {
	for reason, n := range w.refused {
		w.result.Refused = append(w.result.Refused, Refusal{reason, n})
	}
	slices.SortFunc(w.result.Refused, func(a, b Refusal) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		if a.Reason < b.Reason {
			return -1
		}
		return 1
	})
}

// due is in how many seconds each of n more replays is due: one after the other, and
// after those that were placed before.
func (w *run) due(n int) []float64 {
	in := make([]float64, n)
	rate := w.Rate
	switch {
	case rate < 0:
		return in
	case rate == 0:
		rate = DefaultRate
	}
	wait := max(0, time.Until(w.next).Seconds())
	for i := range in {
		in[i] = wait + float64(i)/rate
	}
	w.next = time.Now().Add(time.Duration((wait + float64(n)/rate) * float64(time.Second)))
	return in
}

// batch judges ids, and does what is asked for to those that it can be done to.
func (o *Operator) batch(ctx context.Context, w *run, ids []uuid.UUID) error {
	if w.DryRun {
		return o.tx(ctx, pgx.ReadOnly, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, walks); err != nil {
				return err
			}
			able, refused, err := judge(ctx, tx, &w.Request, ids)
			w.took(able, nil, refused)
			return err
		})
	}
	var able []facts
	var made []uuid.UUID
	var refused map[string]int
	locks := []string{sqlLockEventsOf, sqlLockDeliveries}
	if w.Action == Replay {
		locks = slices.Insert(locks, 0, sqlLockKeysOf)
	}
	next := w.next
	once := func(tx pgx.Tx) (err error) {
		w.next = next
		if _, err := tx.Exec(ctx, walks); err != nil {
			return err
		}
		for _, lock := range locks {
			if _, err := tx.Exec(ctx, lock, ids); err != nil {
				return fmt.Errorf("lock deliveries: %w", err)
			}
		}
		if able, refused, err = judge(ctx, tx, &w.Request, ids); err != nil || len(able) == 0 {
			return err
		}
		if able, made, err = w.act(ctx, tx, able); err != nil {
			return fmt.Errorf("%s: %w", w.Action, err)
		}
		changed := made
		if w.Action != Replay {
			changed = idsOf(able)
		}
		if _, err := tx.Exec(ctx, sqlTellLines, changed); err != nil {
			return fmt.Errorf("tell of lines: %w", err)
		}
		return w.note(ctx, tx, changed)
	}
	err := o.tx(ctx, pgx.ReadWrite, once)
	for try := 1; isDeadlock(err) && try < deadlockTries; try++ {
		// Whoever waited has what we had: at once, we might take it from them again.
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(try) * 50 * time.Millisecond):
		}
		err = o.tx(ctx, pgx.ReadWrite, once)
	}
	if err != nil {
		return err
	}
	w.took(able, made, refused)
	return nil
}

// deadlockTries is how often something is tried that comes upon somebody who locks rows
// in another order. Each try lasts for deadlock_timeout, a second.
const deadlockTries = 4

// isDeadlock reports whether err says that we gave way to somebody who waited for us,
// as we did for them. Nothing is changed then.
func isDeadlock(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "40P01"
}

func (w *run) took(able []facts, made []uuid.UUID, refused map[string]int) {
	w.result.Done += len(able)
	w.result.IDs = append(w.result.IDs, idsOf(able)...)
	w.result.New = append(w.result.New, made...)
	for reason, n := range refused {
		w.refused[reason] += n
	}
}

func idsOf(list []facts) []uuid.UUID {
	ids := make([]uuid.UUID, len(list))
	for i := range list {
		ids[i] = list[i].id
	}
	return ids
}

// act does it to able, under their locks, and returns those that it was done to.
func (w *run) act(ctx context.Context, tx pgx.Tx, able []facts) (done []facts, made []uuid.UUID, err error) {
	ids := idsOf(able)
	var changed []uuid.UUID
	switch w.Action {
	case Replay:
		return w.replay(ctx, tx, able)
	case Cancel:
		if changed, err = queryIDs(ctx, tx, sqlCancel, ids, w.words()); err == nil {
			err = settle(ctx, tx, able)
		}
	case Hold:
		changed, err = queryIDs(ctx, tx, sqlHold, ids, w.words())
	case Release:
		if changed, err = queryIDs(ctx, tx, sqlReleaseHeld, ids, w.EvenUncertain); err == nil {
			err = settleEvents(ctx, tx, able) // what is scheduled again holds its event back no more
		}
	}
	if err == nil && len(changed) != len(able) {
		err = fmt.Errorf("%d of %d deliveries changed under their locks", len(able)-len(changed), len(able))
	}
	return able, nil, err
}

func (w *run) replay(ctx context.Context, tx pgx.Tx, able []facts) (done []facts, made []uuid.UUID, err error) {
	place := map[uuid.UUID]int{}
	fresh := make([]uuid.UUID, len(able))
	for i, f := range able {
		fresh[i] = listener.ReplayID(f.id, f.seq, f.generation+1)
		place[fresh[i]] = i
	}
	changed, err := queryIDs(ctx, tx, sqlReplay, idsOf(able), fresh, w.due(len(able)))
	for _, id := range changed {
		done, made = append(done, able[place[id]]), append(made, id)
	}
	return done, made, err
}

// settle sees to what waited for deliveries that are over now: steps that follow
// them, and their events.
func settle(ctx context.Context, tx pgx.Tx, over []facts) error {
	if _, err := tx.Exec(ctx, sqlReleaseFollowers, idsOf(over)); err != nil {
		return err
	}
	return settleEvents(ctx, tx, over)
}

// settleEvents has the events of changed processed that nothing holds back any more.
func settleEvents(ctx context.Context, tx pgx.Tx, changed []facts) error {
	var seqs []int64
	for _, f := range changed {
		seqs = append(seqs, f.seq)
	}
	_, err := tx.Exec(ctx, sqlSettleEvents, seqs)
	return err
}

// note puts a change on record.
func (w *run) note(ctx context.Context, tx pgx.Tx, changed []uuid.UUID) error {
	filter, err := json.Marshal(w.Filter)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, sqlNoteAudit, w.id, w.By.Who, w.By.Via, w.By.Origin, string(w.Action), string(filter), len(changed), changed, w.By.Reason); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

func queryIDs(ctx context.Context, tx pgx.Tx, query string, args ...any) ([]uuid.UUID, error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}
