package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// script compares the listener with what no listener can do without: a loop
// that writes the same rows, over one connection, and does nothing else.
func script(ctx context.Context, r *run, res *result) error {
	n := r.size(100_000)
	res.note(drainMethod)
	res.note("The script knows the events beforehand. For each batch it inserts one row of outbox.deliveries for each "+
		"and sets processed_at, in one transaction and one round trip: no claim, no lease, no payload read, no delivery. %s events.", number(float64(n)))
	sizes := []int{1000, 10}
	label := func(size int) string { return fmt.Sprintf("script, batch %d", size) }
	var variants []variant
	for _, size := range sizes {
		variants = append(variants,
			variant{oursAt(size), func() (float64, error) { return r.drainOurs(ctx, n, payload, batch(size)) }},
			variant{label(size), func() (float64, error) { return r.runScript(ctx, n, size) }})
	}
	if err := r.compare(res, "events/s", r.Rounds, variants); err != nil {
		return err
	}
	for _, size := range sizes {
		res.atLeast(fmt.Sprintf("listener / script, batch %d", size), "x", 0.7, ratios(res.values(oursAt(size)), res.values(label(size))))
	}
	return nil
}

// runScript returns the events a second of the script.
func (r *run) runScript(ctx context.Context, n, size int) (float64, error) {
	db, err := r.server.filled(ctx, n, payload)
	if err != nil {
		return 0, err
	}
	defer db.drop()
	var rate float64
	err = withConn(ctx, db.url, func(conn *pgx.Conn) error {
		events, err := readEvents(ctx, conn)
		if err != nil {
			return err
		}
		begun := time.Now()
		for len(events) > 0 {
			some := events[:min(size, len(events))]
			events = events[len(some):]
			if err := writeBatch(ctx, conn, some); err != nil {
				return err
			}
		}
		rate = float64(n) / time.Since(begun).Seconds()
		return nil
	})
	return rate, err
}

// scriptEvent is what the script knows of an event.
type scriptEvent struct {
	seq     int64
	id      uuid.UUID
	created time.Time
}

func readEvents(ctx context.Context, conn *pgx.Conn) ([]scriptEvent, error) {
	rows, _ := conn.Query(ctx, `select seq, id, created_at from public.outbox_events order by seq`)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e scriptEvent, err error) {
		return e, row.Scan(&e.seq, &e.id, &e.created)
	})
}

const (
	insertDeliveries = `insert into outbox.deliveries
		(id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
		 state, attempts, claim, created_at, finished_at)
		select id, event_id, event_seq, 'discard.send', created, 'direct', 'discard', 'discard', '',
		       'delivered', 1, $5, clock_timestamp(), clock_timestamp()
		from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[]) as t (id, event_id, event_seq, created)`
	setProcessed = `update public.outbox_events set processed_at = clock_timestamp() where seq = any ($1::bigint[])`
)

// writeBatch writes what the listener writes for a batch of events.
func writeBatch(ctx context.Context, conn *pgx.Conn, events []scriptEvent) error {
	n := len(events)
	ids, of, seqs, created := make([]uuid.UUID, n), make([]uuid.UUID, n), make([]int64, n), make([]time.Time, n)
	for i, e := range events {
		ids[i] = inOrder(e)
		of[i], seqs[i], created[i] = e.id, e.seq, e.created
	}
	var b pgx.Batch
	b.Queue("begin")
	b.Queue(insertDeliveries, ids, of, seqs, created, uuid.New())
	b.Queue(setProcessed, seqs)
	b.Queue("commit")
	return conn.SendBatch(ctx, &b).Close()
}

// inOrder makes an id that begins with 48 bits of seq, as the listener's do:
// new ones go to the end of the index.
func inOrder(e scriptEvent) uuid.UUID {
	id := e.id
	for i := range 6 {
		id[i] = byte(e.seq >> (40 - 8*i))
	}
	return id
}
