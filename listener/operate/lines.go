package operate

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/sql"
)

// Line is what stands in one order: deliveries with the same ordering key.
type Line struct {
	Key     string   `json:"ordering_key"`
	First   Delivery `json:"first"`   // has the turn, or waits for it longest; Since is when it got it, or was made
	Waiting int      `json:"waiting"` // deliveries of later events behind it

	// WaitsFor is the event that keeps the turn from First, since nobody knows yet which line it is of.
	WaitsFor *Unplanned `json:"waits_for,omitempty"`
}

// Unplanned is an event that is committed and not planned.
type Unplanned struct {
	Event uuid.UUID `json:"event_id"`
	Type  string    `json:"event_type"`
}

var sqlFindLines = sql.Query("find_lines")

// Lines returns up to limit lines in which something waits behind the first, or the
// first has failed or waits for an event that is not planned, longest first. Zero means DefaultLimit. Whoever cancels the first
// lets the next one go, at once where a listener hears of it, and else with its next sweep.
func (o *Operator) Lines(ctx context.Context, limit int) (list []Line, err error) {
	switch {
	case limit < 0:
		return nil, wrong("a limit has to be 0 or more")
	case limit == 0:
		limit = DefaultLimit
	}
	err = o.tx(ctx, pgx.ReadOnly, func(tx pgx.Tx) error {
		var types []string
		if o.Ordered != nil {
			types = like(o.Ordered())
		}
		rows, err := tx.Query(ctx, sqlFindLines, limit, types)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Line, err error) {
			d := &l.First
			var event *uuid.UUID
			var typ *string
			err = row.Scan(&l.Key, &d.ID, &d.Event, &d.Type, &d.Route, &d.Step, &d.Channel, &d.Recipient, &d.State, &d.Attempts,
				&d.Generation, &d.Error, &d.Due, &d.Since, &l.Waiting, &event, &typ)
			if event != nil {
				l.WaitsFor = &Unplanned{*event, *typ}
			}
			return l, err
		})
		return err
	})
	return list, err
}
