//go:build unix

package faultrig

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Evidence is what all ledgers say when a run is over.
type Evidence struct {
	Plan       Plan
	Produced   []Produced
	Provided   []Line
	Faults     []Fault
	Events     []EventRow
	Deliveries []DeliveryRow
	Attempts   []AttemptRow
	Changes    []Change
	Booked     map[uuid.UUID]int // rows that the sql step of an event has inserted
	OldHeld    int               // events from before the run that wait for a person, each with its delivery: oldHeld
	OldDone    int               // of those that were processed before the run: what a retention has left
	Leased     int               // rows that are leased although nobody is there any more
	Quiet      time.Duration     // from the last fault until nothing was left to do
	QuietLimit time.Duration     // that Quiet may not pass; 0 for none
	Left       int               // events that were open when the rig had waited long enough
	Exits      []string          // listeners that did not end as they should, or did when they should not
	Strange    []string          // times in the database that are not the database's
	Leaks      []string          // secrets, and what is private, in logs and tables
	Said       []Said            // by listeners, in order
	Inserts    []Insert          // of producers
	Idle       []string          // sessions of listeners that were idle in a transaction when all was done
	Notified   float64           // how much of the queue of notifications was in use then, of 1
	Files      int               // that one listener had open then, at most; 0 where that cannot be told
	Restored   int               // files of outcomes that a stop had kept and a start put on record
	Took       time.Duration
}

// slow counts how often the machine stood still for too long, and says for how long at
// most.
func (ev *Evidence) slow() (n int, longest time.Duration) {
	for _, f := range ev.Faults {
		if f.Kind == Slow {
			n++
			longest = max(longest, f.To.Sub(f.From))
		}
	}
	return n, longest
}

// mostFiles is how many files a listener may have open when nothing is left to do: its connections, and
// those to providers that are kept.
const mostFiles = 100

// idle looks at what is left open when nothing is left to do: sessions in a transaction that has nothing to
// do for a second, the queue of notifications, which such a session would hold, and the
// files of each listener.
func (r *run) idle(ctx context.Context) (sessions []string, queue float64, files int, err error) {
	rows, err := r.pool.Query(ctx, `select application_name || ': ' || left(query, 100) from pg_stat_activity
		where datname = current_database() and state like 'idle in transaction%' and state_change < clock_timestamp() - interval '1 second'
			and application_name not in ($1, 'producer')`, rigName)
	if err != nil {
		return nil, 0, 0, err
	}
	if sessions, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return nil, 0, 0, err
	}
	for _, d := range r.daemons {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.pid()))
		if err == nil { // or there is no such thing here
			files = max(files, len(list))
		}
	}
	// What was sent last may be read yet, by a listener that is slow.
	for deadline := time.Now().Add(patience); ; sleep(ctx, 100*time.Millisecond) {
		err = r.pool.QueryRow(ctx, `select pg_notification_queue_usage()`).Scan(&queue)
		if err != nil || queue == 0 || time.Now().After(deadline) {
			return sessions, queue, files, err
		}
	}
}

// oldHeld is how many events of old.sql wait for a person.
const oldHeld = 3

// EventRow is a row of outbox_events.
type EventRow struct {
	ID        uuid.UUID
	Seq       int64
	Processed bool
	Lease     string // until when it is leased, for people; "" where it is not
}

// DeliveryRow is a row of outbox.deliveries.
type DeliveryRow struct {
	ID         uuid.UUID
	Event      uuid.UUID
	Channel    string
	State      string
	Attempts   int
	Error      string
	ProviderID string
}

// AttemptRow is a row of outbox.attempts.
type AttemptRow struct {
	Delivery uuid.UUID
	Attempt  int
	At       time.Time
	State    string
	Kind     string
	Error    string
}

// Change is a change of an event or a delivery; see audit.sql.
type Change struct {
	N                  int64
	At                 time.Time
	App                string
	Event              uuid.UUID
	Delivery           *uuid.UUID // nil for the event itself
	OldClaim, Claim    *uuid.UUID
	OldUntil, Until    *time.Time // nil also where it is infinite; see the states
	OldState           *string    // nil for an insert
	State              string
	OldAttempts, Tries *int
}

// collect reads all ledgers.
func (r *run) collect(ctx context.Context) (*Evidence, error) {
	ev := &Evidence{Plan: r.plan, Produced: r.producers.ledger, Inserts: r.producers.inserts, Faults: r.faults.all()}
	var err error
	if ev.Provided, err = r.providers.read(); err != nil {
		return nil, err
	}
	if ev.Events, err = all[EventRow](ctx, r, `select id, seq, processed_at is not null, coalesce('leased until ' || lease_until, '')
		from outbox_events where type not like 'old.%'`); err != nil {
		return nil, err
	}
	ev.Deliveries, err = all[DeliveryRow](ctx, r, `select id, event_id, channel, state, attempts, coalesce(last_error, ''), coalesce(provider_id, '')
		from outbox.deliveries where event_type not like 'old.%'`)
	if err != nil {
		return nil, err
	}
	ev.Attempts, err = all[AttemptRow](ctx, r, `select delivery_id, attempt, at, state, coalesce(kind, ''), coalesce(error, '') from outbox.attempts`)
	if err != nil {
		return nil, err
	}
	ev.Changes, err = all[Change](ctx, r, `select n, at, app, event, delivery, old_claim, claim,
		case when isfinite(old_until) then old_until end, case when isfinite(until) then until end,
		old_state, state, old_attempts, attempts from faultrig.changes order by n`)
	if err != nil {
		return nil, err
	}
	type booked struct {
		Event uuid.UUID
		Rows  int
	}
	ev.Strange, err = r.strange(ctx)
	if err != nil {
		return nil, err
	}
	stored, err := r.stored(ctx)
	if err != nil {
		return nil, err
	}
	if ev.Said, ev.Leaks, err = r.heard(); err != nil {
		return nil, err
	}
	ev.Leaks = append(ev.Leaks, stored...)
	rows, err := all[booked](ctx, r, `select event, count(*) from booked group by event`)
	if err != nil {
		return nil, err
	}
	ev.Booked = map[uuid.UUID]int{}
	for _, b := range rows {
		ev.Booked[b.Event] = b.Rows
	}
	err = r.pool.QueryRow(ctx, `select
		(select count(*) from outbox_events as e join outbox.deliveries as d on d.event_seq = e.seq where e.type = 'old.held' and d.state = 'held'),
		(select count(*) from outbox_events where type = 'old.done'),
		(select count(*) from outbox_events where processed_at is null and substr(claim::text, 15, 1) = '4' and isfinite(lease_until) and lease_until > clock_timestamp()) +
		(select count(*) from outbox.deliveries where finished_at is null and substr(claim::text, 15, 1) = '4' and due_at > clock_timestamp())`).
		Scan(&ev.OldHeld, &ev.OldDone, &ev.Leased)
	return ev, err
}

//go:embed times.sql
var times string

// strange names what has a time on record that is far from now: a host whose clock
// is off has written it.
func (r *run) strange(ctx context.Context) ([]string, error) {
	rows, err := r.pool.Query(ctx, times)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func all[T any](ctx context.Context, r *run, sql string) ([]T, error) {
	rows, err := r.pool.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}

// History is everything that the ledgers have about an event, and the faults
// from a second before to a second after it, in order of time.
func (ev *Evidence) History(event uuid.UUID) string {
	type moment struct {
		at   time.Time
		text string
	}
	var list []moment
	add := func(at time.Time, format string, args ...any) {
		list = append(list, moment{at, fmt.Sprintf(format, args...)})
	}
	for _, p := range ev.Produced {
		if p.ID == event {
			add(p.Sent, "producer: end of its transaction sent (%s)", p.Type)
			add(p.Done, "producer: %s", p.Fate)
		}
	}
	for _, l := range ev.Provided {
		if l.Event != event.String() {
			continue
		}
		if l.Fault != "" {
			add(l.At, "provider: %s %s", l.Channel, l.Fault)
		} else {
			add(l.At, "provider: %s accepted, id %s, bytes %s", l.Channel, l.ID, l.Sum)
		}
	}
	mine := map[uuid.UUID]bool{}
	for _, d := range ev.Deliveries {
		mine[d.ID] = d.Event == event
	}
	for _, a := range ev.Attempts {
		if mine[a.Delivery] {
			add(a.At, "ledger: attempt %d ended %s: %s: %s", a.Attempt, a.State, a.Kind, a.Error)
		}
	}
	for _, c := range ev.Changes {
		if c.Event == event {
			add(c.At, "database: %s", c)
		}
	}
	if len(list) > 0 {
		from := slices.MinFunc(list, func(a, b moment) int { return a.at.Compare(b.at) }).at
		to := slices.MaxFunc(list, func(a, b moment) int { return a.at.Compare(b.at) }).at
		for _, f := range ev.Faults {
			if f.To.Before(from.Add(-time.Second)) || f.From.After(to.Add(time.Second)) {
				continue
			}
			add(f.From, "FAULT: %s %s", f.Kind, f.What)
			if f.To.Sub(f.From) > time.Millisecond {
				add(f.To, "FAULT over: %s %s", f.Kind, f.What)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b moment) int { return a.at.Compare(b.at) })
	var b strings.Builder
	fmt.Fprintf(&b, "history of event %s, seed %d", event, ev.Plan.Seed)
	for _, m := range list {
		fmt.Fprintf(&b, "\n    %s  %s", m.at.UTC().Format("15:04:05.000"), m.text)
	}
	return b.String()
}

// String says what a change was.
func (c Change) String() string {
	what := "event"
	if c.Delivery != nil {
		what = "delivery " + short(c.Delivery)
	}
	s := fmt.Sprintf("%s by %s: %s", what, c.App, c.State)
	if c.OldState != nil && *c.OldState != c.State {
		s = fmt.Sprintf("%s by %s: %s -> %s", what, c.App, *c.OldState, c.State)
	}
	if c.Tries != nil {
		s += fmt.Sprintf(", attempts %d", *c.Tries)
	}
	if !same(c.OldClaim, c.Claim) {
		s += fmt.Sprintf(", claim %s -> %s", short(c.OldClaim), short(c.Claim))
	} else {
		s += ", claim " + short(c.Claim)
	}
	if c.Until != nil {
		s += ", until " + c.Until.UTC().Format("15:04:05.000")
	}
	return s
}

func same(a, b *uuid.UUID) bool { return a == b || a != nil && b != nil && *a == *b }

// short is enough of a UUID to tell it from the others of a run.
func short(u *uuid.UUID) string {
	if u == nil {
		return "none"
	}
	return u.String()[24:]
}
