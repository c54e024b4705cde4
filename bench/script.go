package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// script compares the listener with what no listener can do without: a loop
// that writes the same rows, over one connection, and does nothing else. Such a
// loop waits while the server works, and the server while the loop does, so that
// two processors are not busy: see limit for more connections.
func script(ctx context.Context, r *run, res *result) error {
	n := r.size(200_000)
	res.note(drainMethod)
	res.note(scriptMethod)
	res.note("%s events. One connection is no limit of what two processors can do: that is in the scenario limit.", number(float64(n)))
	sizes := []int{1000, 10}
	label := func(size int) string { return fmt.Sprintf("script, batch %d", size) }
	var variants []variant
	for _, size := range sizes {
		variants = append(variants,
			variant{oursAt(size), func() (float64, error) { return r.drainOurs(ctx, n, payload, batch(size)) }},
			variant{label(size), func() (float64, error) { return r.runScript(ctx, n, size, 1) }})
	}
	if err := r.compare(res, "events/s", r.Rounds, variants); err != nil {
		return err
	}
	for _, size := range sizes {
		res.atLeast(fmt.Sprintf("listener / script, batch %d", size), "x", 0.7, ratios(res.values(oursAt(size)), res.values(label(size))))
	}
	return nil
}

// scriptMethod says in a report what the script does.
const scriptMethod = "The script knows the events beforehand. For each batch it inserts one row of outbox.deliveries for each and updates the event's own, as the listener leaves them, in one statement by their numbers, one transaction and one round trip: no claim, no lease, no payload read, no delivery. " +
	"Its time is from when it is connected and knows the events to the answer to its last COMMIT."

// runScript returns the events a second of the script, over so many
// connections at once. Each of them has a range of the events of its own.
func (r *run) runScript(ctx context.Context, n, size, connections int) (float64, error) {
	db, err := r.server.filled(ctx, n, payload)
	if err != nil {
		return 0, err
	}
	defer db.drop()
	took, err := db.runScript(ctx, size, connections)
	if err == nil {
		err = db.allDelivered(ctx, n)
	}
	return float64(n) / took.Seconds(), err
}

// runScript returns how long the script takes for what is there.
func (db *database) runScript(ctx context.Context, size, connections int) (took time.Duration, err error) {
	conns := make([]*pgx.Conn, connections)
	for i := range conns {
		if conns[i], err = pgx.Connect(ctx, db.url); err != nil {
			return 0, err
		}
		defer conns[i].Close(context.WithoutCancel(ctx))
		if _, err = conns[i].Exec(ctx, "set plan_cache_mode = force_generic_plan"); err != nil { // or each range would be planned anew
			return 0, err
		}
	}
	events, err := readEvents(ctx, conns[0])
	if err != nil {
		return 0, err
	}
	errs := make([]error, connections)
	var work sync.WaitGroup
	begun := time.Now()
	for i, conn := range conns {
		part := events[len(events)*i/connections : len(events)*(i+1)/connections]
		work.Go(func() { errs[i] = writeAll(ctx, conn, part, size) })
	}
	work.Wait()
	return time.Since(begun), errors.Join(errs...)
}

// writeAll writes events in batches of that size.
func writeAll(ctx context.Context, conn *pgx.Conn, events []scriptEvent, size int) error {
	for some := range slices.Chunk(events, size) {
		if err := writeBatch(ctx, conn, some); err != nil {
			return err
		}
	}
	return nil
}

// scriptEvent is what the script knows of an event.
type scriptEvent struct {
	seq int64
	id  uuid.UUID
}

func readEvents(ctx context.Context, conn *pgx.Conn) ([]scriptEvent, error) {
	rows, _ := conn.Query(ctx, `select seq, id from public.outbox_events order by seq`)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e scriptEvent, err error) {
		return e, row.Scan(&e.seq, &e.id)
	})
}

// writeRange writes what sql/queries/record_alike.sql leaves of events that arrived, of numbers in a row: the
// cheapest way that we know, in one statement, with nothing to unnest, to look up or to check.
const writeRange = `with done as (
		update public.outbox_events set processed_at = clock_timestamp(), claim = $3
		where seq between $1 and $2
		returning seq, id, created_at, processed_at as at)
	insert into outbox.deliveries
		(id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
		 state, attempts, created_at, finished_at)
	select ($4::uuid[])[1 + seq - $1], id, seq, 'discard.send', created_at, 'direct', 'discard', 'discard', '', 'delivered', 1, at, at
	from done`

// writeBatch writes what the listener leaves of a batch of events, whose numbers have no gap: a delivery
// that has its outcome has no claim, and the event keeps its last one.
func writeBatch(ctx context.Context, conn *pgx.Conn, events []scriptEvent) error {
	n := len(events)
	ids := make(uuids, n)
	for i, e := range events {
		ids[i] = pgtype.UUID{Bytes: inOrder(e), Valid: true}
	}
	var b pgx.Batch
	b.Queue("begin")
	b.Queue(writeRange, events[0].seq, events[n-1].seq, uuid.New(), ids)
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

// uuids is an array that pgx encodes as it is, as the listener's are: a []uuid.UUID would
// go through text.
type uuids = pgtype.FlatArray[pgtype.UUID]
