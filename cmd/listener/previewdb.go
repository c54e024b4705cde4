package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/preview"
	"github.com/outbox-listener/outbox-listener/sql"
)

// previewDatabase has the events that are previewed.
type previewDatabase struct{ pool *pgxpool.Pool }

var sqlPreviewEvent = sql.Query("preview_event")

// read reads event id in a READ ONLY transaction, without a lock on it. The
// payload is left out where it is larger than most; size is its size in bytes.
func (d *previewDatabase) read(ctx context.Context, id uuid.UUID, most int) (ev dispatch.Event, known preview.Event, size int, err error) {
	if err := tryDatabase(ctx, d.pool); err != nil {
		return ev, known, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	var payload *string
	var processed *time.Time
	ev.ID = id
	err = pgx.BeginTxFunc(ctx, d.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, sqlPreviewEvent, [16]byte(id), most).Scan(&ev.Type, &ev.CreatedAt, &processed, &size, &payload, &known.OnRecord)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ev, known, 0, fmt.Errorf("there is no event %s in the database", id)
	case err != nil:
		return ev, known, 0, fmt.Errorf("cannot read the event: %w", err)
	}
	if payload != nil {
		ev.Payload = []byte(*payload)
	}
	if processed != nil {
		known.ProcessedAt = processed.UTC()
	}
	return ev, known, size, nil
}
