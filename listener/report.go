package listener

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Report puts on record what a provider says about a delivery after it took it. known
// is false where the ledger has no such delivery. It may be called before Run has
// begun, and again with the same. An error says that nothing was noted, and that it
// is worth trying again.
//
// It writes nothing that a listener which has the delivery under a lease is about to
// write, but for the provider's name, which both know as the same.
func (l *Listener) Report(ctx context.Context, r dispatch.Report) (known bool, err error) {
	if r.Delivery == uuid.Nil {
		return false, nil
	}
	n, err := l.store.noteReport(ctx, r)
	if err != nil {
		l.sparse.warn("report of a provider not on record", err)
		return false, err
	}
	if n.due {
		l.noteDue(0)
	}
	if n.news {
		level := slog.LevelInfo
		if r.Fate.Final() && r.Fate != dispatch.FateDelivered {
			level = slog.LevelWarn
		}
		attrs := []any{"delivery", r.Delivery, "provider_id", r.ProviderID, "receipt", string(r.Fate)}
		if r.Code != "" {
			attrs = append(attrs, "code", r.Code)
		}
		l.log.Log(ctx, level, "receipt", attrs...)
	}
	return n.known, nil
}

// noted is what a report came to.
type noted struct {
	known bool // there is such a delivery
	news  bool // and it was not on record yet what became of it
	due   bool // something is due for it
}

// noteReport puts r on record.
func (s *store) noteReport(ctx context.Context, r dispatch.Report) (n noted, err error) {
	released := 0
	err = s.tx(ctx, durable, func(b *pgx.Batch) {
		b.Queue(sqlLockEventsOf, uuids{{Bytes: r.Delivery, Valid: true}})
		if r.ProviderID != "" {
			b.Queue(sqlLockReport, [16]byte(r.Delivery))
		}
		b.Queue(sqlNoteReport, [16]byte(r.Delivery), r.ProviderID, string(r.Fate), clean(r.Code)).Query(func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&n.news, &n.due}, func() error {
				n.known = true
				return nil
			})
			return err
		})
		if r.Fate.Final() {
			s.releaseFollowers(b, uuids{{Bytes: r.Delivery, Valid: true}}, &released)
		}
	})
	if err != nil {
		return noted{}, fmt.Errorf("note report: %w", err)
	}
	n.due = n.due || released > 0
	return n, nil
}
