package listener

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestAdoptedAndDeleted: an event is deleted while a listener has it, after that took over
// what the ledger had of it. Nothing of it is left open that nobody ever comes to.
func TestAdoptedAndDeleted(t *testing.T) {
	t.Parallel()
	msg := func(step string, terms *dispatch.Terms) dispatch.Message {
		return dispatch.Message{Route: "r", Step: step, Channel: "c", Recipient: "x", Content: []byte(`{}`), Terms: terms}
	}
	put := func(j *job) { // put off, since its channel is paused, say
		o := j.notBegun(time.Minute)
		j.outcome, j.wait = &o, time.Minute
	}
	frozen := &dispatch.Terms{Freeze: true}
	waits := &dispatch.Terms{Freeze: true, After: []string{"first"}}
	for _, tt := range []struct {
		name   string
		steps  map[string]dispatch.Message // as it is planned today
		stands map[string]string           // how the steps that the ledger has stand when the event is claimed
		freeze bool
		work   func(j *job)      // what comes of each that is not frozen; nil: its event is parked first
		want   map[string]string // state, and when it is due
	}{
		{"handed back", map[string]dispatch.Message{"only": msg("only", nil)}, map[string]string{"only": "state = 'ready'"}, false,
			put, map[string]string{"only": "ready later"}},
		{"parked", map[string]dispatch.Message{"only": msg("only", nil)}, map[string]string{"only": "state = 'ready'"}, false,
			nil, map[string]string{"only": "ready leased"}},
		{"never in the ledger", map[string]dispatch.Message{"only": msg("only", nil), "new": msg("new", nil)}, map[string]string{"only": "state = 'ready'"}, false,
			put, map[string]string{"only": "ready later"}},
		{"before it was frozen", map[string]dispatch.Message{"only": msg("only", frozen)}, map[string]string{"only": "state = 'retry', attempts = 1"}, true,
			nil, map[string]string{"only": "retry now"}},
		{"being sent by one that died", map[string]dispatch.Message{"only": msg("only", frozen)}, map[string]string{"only": "state = 'sending', attempts = 1"}, true,
			nil, map[string]string{"only": "sending now"}},
		{"scheduled", map[string]dispatch.Message{"only": msg("only", frozen)}, map[string]string{"only": "state = 'scheduled', due_at = now() + interval '1 hour'"}, true,
			nil, map[string]string{"only": "scheduled later"}},
		{"held", map[string]dispatch.Message{"only": msg("only", frozen)}, map[string]string{"only": "state = 'held', stuck_at = now(), due_at = null"}, true,
			nil, map[string]string{"only": "held never"}},
		{"waiting for a step that goes on", map[string]dispatch.Message{"first": msg("first", frozen), "then": msg("then", waits)},
			map[string]string{"first": "state = 'retry', attempts = 1", "then": "state = 'ready', after_steps = '{first}', scope = '{}', content = null, due_at = null"}, true,
			nil, map[string]string{"first": "retry now", "then": "ready never"}},
		{"waiting for a step that was to come", map[string]dispatch.Message{"first": msg("first", frozen), "then": msg("then", waits)},
			map[string]string{"then": "state = 'ready', after_steps = '{first}', scope = '{}', content = null, due_at = null"}, true,
			nil, map[string]string{"then": "ready now"}},
		{"in a line", map[string]dispatch.Message{"only": msg("only", &dispatch.Terms{Freeze: true, Ordering: "k"})},
			map[string]string{"only": "state = 'ready', ordering_key = 'k', line = 'k', due_at = null"}, true,
			nil, map[string]string{"only": "ready now"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			s, e := takenOver(t, db)
			for name, stands := range tt.stands {
				m := tt.steps[name]
				pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, due_at, content, required)
					select $1, id, seq, type, created_at, 'r', $2, 'c', 'x', 'ready', 0, now(), '{}', false from outbox_events`, deliveryID(e.seq, e.ID, &m, 0), name)
				pgtest.Exec(t, db, `update outbox.deliveries set `+stands+` where step = $1`, name)
			}
			have, err := s.adopt(t.Context(), e)
			if err != nil || len(have) != len(tt.stands) {
				t.Fatalf("adopted %d, %v", len(have), err)
			}
			for name, m := range tt.steps {
				if k := match(&have, e, &m); k != nil {
					j := e.resume(k, m)
					if !tt.freeze { // as one that holds its event back
						j.Terms = nil
					}
					if name == "then" {
						j.Content = nil
					}
					e.jobs = append(e.jobs, j)
				} else {
					e.jobs = append(e.jobs, e.newJob(m, 0))
				}
			}
			pgtest.Exec(t, db, `delete from outbox_events`)

			rec := newRecorder(t.Context(), s, quietLog(), func(entry, bool) {})
			rec.thaw = func(entry, map[uuid.UUID]string) { t.Error("thawed") }
			rec.pass = func(ctx context.Context, lines []string) {
				if _, err := s.passTurns(ctx, lines, nil); err != nil {
					t.Error(err)
				}
			}
			l := &Listener{recorder: rec, store: s}
			if tt.freeze {
				l.freeze(e)
				rec.freeze(rec.freezes.take(1))
			} else {
				en := entry{event: e}
				for _, j := range e.jobs {
					if tt.work != nil {
						tt.work(j)
					} else {
						en.open = append(en.open, j)
					}
				}
				en.rows = e.rows(s.ttl())
				rec.write([]entry{en})
			}
			rows, err := db.Pool.Query(t.Context(), `select step, state || ' ' || case when due_at is null then 'never' when due_at <= clock_timestamp() then 'now'
					when get_byte(uuid_send(claim), 6) >> 4 <> 5 then 'leased' else 'later' end
				from outbox.deliveries where state <> 'held' or claim is null`)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			got := map[string]string{}
			for rows.Next() {
				var step, stands string
				if err := rows.Scan(&step, &stands); err != nil {
					t.Fatal(err)
				}
				got[step] = stands
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// takenOver claims the one event of db, which somebody else had and whose lease ran out.
func takenOver(t *testing.T, db *pgtest.DB) (*store, *event) {
	t.Helper()
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, claim, lease_until) values ('greeting', '{}', gen_random_uuid(), now() - interval '1 second')`)
	s := &store{pool: db.Pool, lease: time.Minute}
	claims, _, err := s.claimEvents(t.Context(), 0, top, 10, 1)
	if err != nil || len(claims) != 1 || len(claims[0].events) != 1 {
		t.Fatalf("%+v, %v", claims, err)
	}
	return s, claims[0].events[0]
}
