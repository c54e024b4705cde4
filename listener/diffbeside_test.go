package listener

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/sql"
)

// beside plays what happens beside claims and records: turns, steps that wait,
// reports, people, and what is outside of it. j is a delivery that was planned or claimed, nil
// where there is none. It reports whether there was somebody for it.
func (p *play) beside(ctx context.Context, m move, j *job) (want, got string, did bool, err error) {
	switch m.what {
	case "pass turns":
		lines := [][]string{{"k1"}, {"k2"}, {"k1", "k2"}}[m.a%3]
		types := [][]string{{"one"}, {"one", "two"}, nil, {"t%"}}[m.b%4]
		made, was := 0, 0
		p.s.due = func() { made++ }
		again, err := p.s.passTurns(ctx, lines, types)
		wantAgain, due := p.ref.passTurns(lines, types, 0, nil)
		if due > 0 {
			was = 1
		}
		slices.Sort(again)
		return fmt.Sprint(wantAgain, was), fmt.Sprint(again, made), true, err
	case "stalled lines":
		after, most := []string{"", "k1"}[m.a%2], 1+m.b%3
		stalled, last, err := p.s.stalledLines(ctx, after, most)
		wantStalled, wantLast := p.ref.stalledLines(after, most)
		return fmt.Sprint(wantStalled, wantLast), fmt.Sprint(stalled, last), true, err
	case "release followers":
		var ids uuids
		var plain []uuid.UUID
		for i, row := range p.refRows() {
			if (m.b>>(i%8))&1 != 0 {
				ids.add(row.id)
				plain = append(plain, row.id)
			}
		}
		if len(plain) == 0 {
			return "", "", false, nil
		}
		n := 0
		err := p.s.tx(ctx, durable, func(b *pgx.Batch) { p.s.releaseFollowers(b, ids, &n) })
		return fmt.Sprint(len(p.ref.releaseFollowers(plain))), fmt.Sprint(n), true, err
	case "note report":
		row, ok := pick(p.refRows(), m.a)
		if !ok {
			return "", "", false, nil
		}
		rep := dispatch.Report{Delivery: row.id, ProviderID: []string{"", "SM1", "SM2"}[m.b%3], Fate: append([]dispatch.Fate{""}, fates...)[m.c%7]}
		n, err := p.s.noteReport(ctx, rep)
		return fmt.Sprint(p.ref.noteReport(rep)), fmt.Sprint(n), true, err
	case "standing":
		row, ok := pick(p.refRows(), m.a)
		if !ok {
			return "", "", false, nil
		}
		asked := &job{seq: row.seq, Delivery: dispatch.Delivery{Message: dispatch.Message{Route: "r", Terms: &dispatch.Terms{InsteadOf: "a"}}}}
		st, err := p.s.standing(ctx, asked)
		was := p.ref.standing(asked)
		st.Over, was.Over = 0, 0
		return fmt.Sprint(was), fmt.Sprint(st), true, err
	case "freeze delivery":
		if j == nil {
			return "", "", false, nil
		}
		kept, err := p.s.freezeDelivery(ctx, j)
		return fmt.Sprint(p.ref.freezeDelivery(j)), fmt.Sprint(kept), true, err
	case "step results":
		rows := p.refRows()
		row, ok := pick(rows, m.a)
		if !ok {
			return "", "", false, nil
		}
		asked := &job{seq: row.seq, Delivery: dispatch.Delivery{Message: dispatch.Message{Route: "r", Terms: &dispatch.Terms{After: []string{"a", "b"}}}}}
		steps, err := p.s.stepResults(ctx, asked)
		return fmt.Sprint(p.ref.stepResults(asked)), fmt.Sprint(steps), true, err
	case "hold", "let out", "withdraw", "replay":
		return p.person(ctx, m)
	default:
		did, err := p.outside(ctx, m)
		return "", "", did, err
	}
}

// person plays what a person does to a delivery: what is judged of it is the same, and where
// it may be done, it is.
func (p *play) person(ctx context.Context, m move) (want, got string, did bool, err error) {
	row, ok := pick(p.refRows(), m.a)
	if !ok {
		return "", "", false, nil
	}
	want = fmt.Sprintf("%+v", p.ref.judge(row))
	ids := uuids{{Bytes: row.id, Valid: true}}
	even := m.b%2 == 0
	fresh := uuids{{Bytes: ReplayID(row.id, row.seq, row.generation+1), Valid: true}}
	var acts []func(tx pgx.Tx) error
	act := func(query string, args ...any) {
		acts = append(acts, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql.Query(query), args...)
			return err
		})
	}
	switch seq := row.seq; m.what {
	case "hold":
		if did = p.ref.hold(row); did {
			act("hold_deliveries", ids, "held by ann")
		}
	case "let out":
		if did = p.ref.letOut(row, even); did {
			act("release_held", ids, even)
			act("settle_events", []int64{seq})
		}
	case "withdraw":
		if did = p.ref.cancel(row); did {
			act("cancel_deliveries", ids, byPerson)
			act("release_followers", ids)
			act("settle_events", []int64{seq})
		}
	case "replay":
		if did = p.ref.replay(row, even); did {
			act("replay_deliveries", ids, fresh, []float64{0})
		}
	}
	var f refFacts
	err = p.s.inTx(ctx, dbTimeout, func(ctx context.Context, tx pgx.Tx) error {
		for _, lock := range []string{"lock_events_of", "lock_deliveries"} {
			if _, err := tx.Exec(ctx, sql.Query(lock), ids); err != nil {
				return err
			}
		}
		if err := tx.QueryRow(ctx, sql.Query("judge_deliveries"), ids).Scan(nil, nil, nil, nil, nil, nil,
			&f.unclear, &f.leased, &f.idle, &f.inHand, &f.gone, nil, nil, &f.waits, &f.newer, &f.superseded); err != nil {
			return err
		}
		for _, act := range acts {
			if err := act(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if got = fmt.Sprintf("%+v", f); want != got {
		did = true
	}
	return want, got, did, err
}
