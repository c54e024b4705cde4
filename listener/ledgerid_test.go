package listener

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// isMoved is the condition of the index deliveries_moved.
const isMoved = `substr(uuid_send(id), 1, 6) <> substr(int8send(event_seq), 3)`

// TestLedgerKnowsIDs: SQL takes an id apart as deliveryID made it. No number
// comes near 2^48 in practice; one beyond would still be told apart from the
// one whose ids begin alike.
func TestLedgerKnowsIDs(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	seqs := []int64{1, 255, 256, 1<<31 + 7, 1<<47 + 1, 1<<48 - 1, 1 << 48, 1<<48 + 256, 1<<63 - 1}
	for _, seq := range seqs {
		ev := uuid.New()
		for gen := range 3 {
			m := dispatch.Message{Route: "direct", Step: "sms", Recipient: "a"}
			pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts)
				values ($1, $2, $3, '', now(), '', '', '', '', 'ready', 0)`, [16]byte(deliveryID(seq, ev, &m, gen)), [16]byte(ev), seq)
		}
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where `+isMoved); n != 0 {
		t.Errorf("%d fresh deliveries are taken for moved ones", n)
	}
	for _, seq := range seqs {
		if got := pgtest.QueryVal[string](t, db, `select count(*) || ' of ' || count(distinct event_id) || ' at ' || min(event_seq)
			from outbox.deliveries where id in (select outbox.deliveries_of($1))`, seq); got != fmt.Sprintf("3 of 1 at %d", seq) {
			t.Errorf("event %d: %s", seq, got)
		}
	}
}

// TestDeliveriesOf: whatever became of an event, all its deliveries are found
// by its number, and those under other numbers are not.
func TestDeliveriesOf(t *testing.T) {
	t.Parallel()
	db, d := pgtest.New(t), dispatch.New()
	fails := true
	sender := senderFunc(func(dl *dispatch.Delivery) error {
		switch {
		case dl.Type == "retried" && fails:
			return &dispatch.Error{Kind: dispatch.Down, Err: fmt.Errorf("down")}
		case dl.Type == "dead" && fails:
			return &dispatch.Error{Kind: dispatch.Rejected, Err: fmt.Errorf("rejected")}
		}
		return nil
	})
	d.Register("pigeon", sender, dispatch.Policy{})
	for _, typ := range []string{"fresh", "retried", "dead", "numbered"} {
		d.Route(typ, func(_ context.Context, ev dispatch.Event) []dispatch.Message {
			return []dispatch.Message{{Route: "test", Step: "a", Channel: "pigeon", Content: ev.Payload}, {Route: "test", Step: "b", Channel: "pigeon", Content: ev.Payload}}
		})
	}
	once := func() {
		t.Helper()
		l, err := New(Config{Pool: db.Pool, Dispatcher: d, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Once(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	look := func(moved int, want string) {
		t.Helper()
		if got := pgtest.QueryVal[string](t, db, `select string_agg(type || ' ' || found, ', ' order by type) from (
			select e.type, string_agg(d.state || d.generation, ' ' order by d.generation, d.step) as found
			from outbox_events as e
			left join lateral outbox.deliveries_of(e.seq) as o (id) on true
			left join outbox.deliveries as d on d.id = o.id and d.event_id = e.id
			group by e.type) as t`); got != want {
			t.Errorf("found\n%s; want\n%s", got, want)
		}
		if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where `+isMoved); n != moved {
			t.Errorf("%d deliveries are in the index of moved ones, want %d", n, moved)
		}
	}

	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('fresh', '{}'), ('retried', '{}'), ('dead', '{}')`)
	// What "migrate --backlog" does with a row from before the adoption.
	pgtest.Exec(t, db, `alter table outbox_events disable trigger outbox_events_seq`)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, seq) values ('numbered', '{}', null)`)
	pgtest.Exec(t, db, `update outbox_events set seq = nextval('outbox_events_seq_seq') where seq is null`)
	once()
	look(0, "dead dead0 dead0, fresh delivered0 delivered0, numbered delivered0 delivered0, retried retry0 retry0")

	// The retried one is on record at its own time, and settles its event.
	fails = false
	pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() where state = 'retry'`)
	once()
	look(0, "dead dead0 dead0, fresh delivered0 delivered0, numbered delivered0 delivered0, retried delivered0 delivered0")
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where processed_at is null`); n != 0 {
		t.Errorf("%d events are not processed", n)
	}

	// Opened again, they take what they have to a new place. Generations grow.
	pgtest.Exec(t, db, `update outbox_events set processed_at = null where type <> 'fresh'`)
	once()
	look(6, "dead dead0 dead0 delivered1 delivered1, fresh delivered0 delivered0, numbered delivered0 delivered0, retried delivered0 delivered0")
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'dead', stuck_at = now() where generation = 1 and step = 'b'`)
	pgtest.Exec(t, db, `update outbox_events set processed_at = null where type = 'dead'`)
	once()
	look(8, "dead dead0 dead0 delivered1 dead1 delivered2, fresh delivered0 delivered0, numbered delivered0 delivered0, retried delivered0 delivered0")

	// One that goes on in the ledger after it was opened again: held by what
	// it brought along, settled by it as well.
	pgtest.Exec(t, db, `update outbox_events set processed_at = null where type = 'retried'`)
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'held', finished_at = null, stuck_at = now() where event_type = 'retried'`)
	pgtest.Exec(t, db, `update outbox_events set lease_until = 'infinity' where type = 'retried'`)
	settle := func(want int) {
		t.Helper()
		pgtest.Exec(t, db, strings.Replace(sqlSettleEvents, "$1", "array(select seq from public.outbox_events where type = 'retried')", 1))
		if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where type = 'retried' and processed_at is not null`); n != want {
			t.Errorf("%d events settled, want %d", n, want)
		}
	}
	settle(0)
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'canceled', finished_at = now(), stuck_at = null where state = 'held' and step = 'a'`)
	settle(0)
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'canceled', finished_at = now(), stuck_at = null where state = 'held'`)
	settle(1)
}

// senderFunc is a Sender that answers by a function.
type senderFunc func(d *dispatch.Delivery) error

func (f senderFunc) Send(_ context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	return dispatch.Receipt{}, f(d)
}
