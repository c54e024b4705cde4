package operate

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// defaultStates are what an action is about where neither ids nor states are
// named.
var defaultStates = map[Action][]dispatch.State{
	Replay:  {dispatch.Dead},
	Cancel:  {dispatch.Scheduled, dispatch.Ready, dispatch.Retry, dispatch.Uncertain, dispatch.Held},
	Hold:    {dispatch.Scheduled, dispatch.Ready, dispatch.Retry, dispatch.Uncertain},
	Release: {dispatch.Held},
}

// facts are what decides whether something may be done to a delivery. See
// judge_deliveries.sql.
type facts struct {
	id         uuid.UUID
	seq        int64
	channel    string
	state      dispatch.State
	generation int
	heldFrom   dispatch.State // where a person held it

	unclear    bool // it may have arrived
	leased     bool // a listener works on it
	idle       bool // no listener has had it since it was put off
	inHand     bool // its event is claimed, or waits to be
	eventGone  bool // its event was deleted
	stray      bool // and that long ago, while it was being sent: nobody comes to it
	content    bool // the ledger has what is sent, or what that is made of
	waits      bool // for other steps
	newer      bool // there is a later generation of it
	superseded bool // a newer event has the same step and key
}

// judge says which of ids the action may be done to, in order of their events,
// and counts the others by reason.
func judge(ctx context.Context, tx pgx.Tx, r *Request, ids []uuid.UUID) (able []facts, refused map[string]int, err error) {
	rows, err := tx.Query(ctx, sqlJudge, ids)
	if err != nil {
		return nil, nil, fmt.Errorf("judge deliveries: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f facts, err error) {
		err = row.Scan(&f.id, &f.seq, &f.channel, &f.state, &f.generation, &f.heldFrom, &f.unclear, &f.leased, &f.idle, &f.inHand, &f.eventGone, &f.stray, &f.content, &f.waits, &f.newer, &f.superseded)
		return f, err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("judge deliveries: %w", err)
	}
	if r.Action == Replay {
		if err := tellApart(ctx, tx, all); err != nil {
			return nil, nil, fmt.Errorf("judge deliveries: %w", err)
		}
	}
	refused = map[string]int{}
	for _, f := range all {
		if why := r.refuse(&f); why != "" {
			refused[why]++
		} else {
			able = append(able, f)
		}
	}
	if gone := len(ids) - len(all); gone > 0 {
		refused["gone from the ledger"] = gone
	}
	return able, refused, nil
}

// refuse says why the action may not be done to a delivery; "" where it may.
func (r *Request) refuse(f *facts) string {
	switch {
	case f.stray && r.Action == Cancel:
		return ""
	case f.stray:
		return "its event was deleted while it was being sent: to be canceled"
	case f.state == dispatch.Sending && f.idle:
		return "what became of its last attempt is not known yet"
	case f.state == dispatch.Sending:
		return "being sent at this moment"
	case f.leased:
		return "a listener works on it at this moment"
	case f.inHand:
		return "its event is being worked on, or about to be"
	}
	switch r.Action {
	case Replay:
		return r.refuseReplay(f)
	case Release:
		if f.state != dispatch.Held {
			return "not held: " + string(f.state)
		}
		if f.heldFrom == "" {
			return r.refuseUnclear(f)
		}
		return ""
	}
	switch {
	case f.state.Terminal():
		return "over already: " + string(f.state)
	case r.Action == Hold && f.state == dispatch.Held:
		return "held already"
	case r.Action == Hold && f.waits:
		return "waits for other steps of its route; hold those"
	}
	return ""
}

func (r *Request) refuseReplay(f *facts) string {
	switch {
	case f.state == dispatch.Held:
		return "held: to be released, not replayed"
	case !f.state.Terminal():
		return "not over yet: " + string(f.state)
	case f.state == dispatch.Delivered && !r.EvenDelivered:
		return "delivered"
	case f.newer:
		return "there is a newer delivery in its place"
	case f.superseded:
		return "superseded by a newer event"
	case !f.content && f.channel == "":
		return "its event had no delivery; open the event again"
	case !f.content && f.eventGone:
		return "its event was deleted, and its content is not kept"
	case f.state != dispatch.Delivered:
		return r.refuseUnclear(f)
	}
	return ""
}

func (r *Request) refuseUnclear(f *facts) string {
	if f.unclear && !r.EvenUncertain {
		return "may have arrived; --even-uncertain (even_uncertain) sends it all the same"
	}
	return ""
}
