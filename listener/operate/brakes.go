package operate

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/sql"
)

var sqlShowBrakes = sql.Query("show_brakes")

// Brake is a destination that listeners send nothing to for the time being, since it
// is down or asked for time.
type Brake struct {
	Destination string    `json:"destination"`
	Since       time.Time `json:"since"`
	Until       time.Time `json:"until"`    // nothing is sent before; from then on one is a second, to see whether it is taken
	Failures    int64     `json:"failures"` // that brakes were counted by
	Reason      string    `json:"reason"`   // the last failure
}

// Brakes returns where nothing is sent at the moment, longest first. It needs the
// right to read outbox.brakes.
func (o *Operator) Brakes(ctx context.Context) (list []Brake, err error) {
	err = o.tx(ctx, pgx.ReadOnly, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sqlShowBrakes)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Brake])
		return err
	})
	return list, err
}
