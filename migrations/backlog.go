package migrations

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Backlog says what becomes of the events that wait in a table when it is
// adopted. The zero value means that nobody has decided.
type Backlog struct {
	Choice Choice
	Since  time.Time // for ChoiceSince alone
}

// Choice is one of three answers.
type Choice string

// The answers. Events that are left alone keep seq null and are never
// touched; opening one again (processed_at set, then null) delivers it.
const (
	ChoiceDeliver Choice = "deliver" // all of them, oldest first
	ChoiceSkip    Choice = "skip"    // none: those created before this moment are left alone
	ChoiceSince   Choice = "since"   // those created at or after Since; older ones are left alone
)

// ParseBacklog reads "deliver", "skip", or a moment: RFC 3339, a date (UTC),
// or how long ago, such as "36h". An empty s is no decision.
func ParseBacklog(s string) (Backlog, error) {
	switch s {
	case "":
		return Backlog{}, nil
	case string(ChoiceDeliver), string(ChoiceSkip):
		return Backlog{Choice: Choice(s)}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return Backlog{Choice: ChoiceSince, Since: t}, nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return Backlog{Choice: ChoiceSince, Since: time.Now().Add(-d)}, nil
	}
	return Backlog{}, fmt.Errorf(`backlog %q is not "deliver", "skip", a time like 2026-11-01T00:00:00Z, a date like 2026-11-01, or an age like 36h`, s)
}

// Waiting is how many events of one type wait, and since when.
type Waiting struct {
	Type           string
	Count          int64
	Oldest, Newest time.Time // zero when created_at is null
}

// BacklogError says that events wait in a table that is to be adopted, and
// that somebody must say what becomes of them. Nothing was changed.
type BacklogError struct {
	Waiting []Waiting // most frequent first
	AskedAt time.Time // by the database's clock
}

// Error implements error. It is a table and the three choices.
func (e *BacklogError) Error() string {
	const most = 20
	var b strings.Builder
	total := int64(0)
	for _, w := range e.Waiting {
		total += w.Count
	}
	fmt.Fprintf(&b, "events wait in public.outbox_events from before this migration, %d in all:\n\n", total)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "  type\tcount\toldest\tnewest\n")
	for i, w := range e.Waiting {
		if i == most {
			fmt.Fprintf(t, "  and %d more types\n", len(e.Waiting)-most)
			break
		}
		fmt.Fprintf(t, "  %s\t%d\t%s\t%s\n", printable(w.Type), w.Count, e.when(w.Oldest), e.when(w.Newest))
	}
	t.Flush()
	fmt.Fprintf(&b, `
Nothing was changed. Say what becomes of them and run it again:

  listener migrate --backlog deliver               delivers all of them, oldest first
  listener migrate --backlog skip                  leaves them alone, and delivers only what comes from now on
  listener migrate --backlog %s  delivers those created since then (or "36h": in the last 36 hours)`,
		e.AskedAt.UTC().Add(-24*time.Hour).Truncate(time.Second).Format(time.RFC3339))
	return b.String()
}

func (e *BacklogError) when(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return fmt.Sprintf("%s (%s)", t.UTC().Format("2006-01-02 15:04:05Z"), age(e.AskedAt.Sub(t)))
}

// age rounds d to something that people say.
func age(d time.Duration) string {
	switch day := 24 * time.Hour; {
	case d < 0:
		return "in the future"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	default:
		return fmt.Sprintf("%d days ago", d/day)
	}
}

// printable keeps what a row says from playing tricks on a terminal.
func printable(s string) string {
	const most = 60
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		s = strconv.Quote(s)
	}
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}

// recent is how far back the created_at of an event may lie that was not
// committed yet when the backlog was counted, and that counts as new. It
// keeps old rows that are being copied in at that moment from being new.
const recent = "1 hour"

// asked is what was counted, all in one snapshot.
type asked struct {
	at      time.Time
	waiting []Waiting
	seen    []uuid.UUID // those of the counted that are recent
}

// countBacklog counts the events that wait in an existing table. It reads
// the whole table, and locks nothing that anybody would notice.
func countBacklog(ctx context.Context, conn *pgx.Conn) (asked, error) {
	var a asked
	opt := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, conn, opt, func(tx pgx.Tx) error {
		// The clock is read before the snapshot is taken or with it: whoever
		// begins after this moment is not in the snapshot.
		if err := tx.QueryRow(ctx, `select clock_timestamp()`).Scan(&a.at); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `
			select coalesce(type, ''), count(*), coalesce(min(created_at), '-infinity'), coalesce(max(created_at), '-infinity')
			from public.outbox_events where processed_at is null
			group by type order by count(*) desc, type`)
		if err != nil {
			return err
		}
		a.waiting, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Waiting, error) {
			var w Waiting
			err := row.Scan(&w.Type, &w.Count, finite{&w.Oldest}, finite{&w.Newest})
			return w, err
		})
		if err != nil || len(a.waiting) == 0 {
			return err
		}
		rows, err = tx.Query(ctx, `
			select id from public.outbox_events
			where processed_at is null and created_at >= $1::timestamptz - $2::text::interval`, a.at, recent)
		if err != nil {
			return err
		}
		a.seen, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		return err
	})
	return a, err
}

// decide turns a choice into the words and the moment that are recorded.
// Without a choice there was nothing to decide about.
func (a asked) decide(b Backlog) (Choice, string) {
	switch b.Choice {
	case ChoiceDeliver:
		return ChoiceDeliver, "-infinity"
	case ChoiceSince:
		return ChoiceSince, b.Since.UTC().Format(time.RFC3339Nano)
	case ChoiceSkip:
		return ChoiceSkip, a.at.UTC().Format(time.RFC3339Nano)
	}
	return ChoiceSince, a.at.UTC().Format(time.RFC3339Nano)
}

// recordBacklog writes the decision down, in the transaction that adopts.
func recordBacklog(ctx context.Context, tx pgx.Tx, a asked, b Backlog) error {
	choice, since := a.decide(b)
	seen := a.seen
	if seen == nil {
		seen = []uuid.UUID{}
	}
	_, err := tx.Exec(ctx, `
		update outbox.state set backlog = $1::text, backlog_since = $2::text::timestamptz,
			backlog_asked_at = $3::timestamptz, backlog_seen = $4::uuid[], backlog_done_at = null`,
		string(choice), since, a.at, seen)
	return err
}

// changeBacklog records a decision that was made after the adoption. It
// returns a warning where the decision comes too late to change anything.
func (s *session) changeBacklog(ctx context.Context, b Backlog) (warning string, err error) {
	err = s.tx(ctx, func(tx pgx.Tx) error {
		var (
			a     asked
			done  bool
			wider bool
			old   Choice
		)
		if err := tx.QueryRow(ctx, `select clock_timestamp()`).Scan(&a.at); err != nil {
			return err
		}
		choice, since := a.decide(b)
		err := tx.QueryRow(ctx, `
			select coalesce(backlog, ''), backlog_done_at is not null, coalesce($1::text::timestamptz < backlog_since, true)
			from outbox.state for update`, since).Scan(&old, &done, &wider)
		switch {
		case err != nil:
			return err
		case choice == ChoiceSkip && old == ChoiceSkip:
			return nil // as it is; not from a later moment on
		case done && !wider:
			if choice != old {
				warning = fmt.Sprintf("the backlog was decided before (%s); what was delivered stays so, and %q adds nothing to it", old, choice)
			}
			return nil
		}
		_, err = tx.Exec(ctx, `update outbox.state set backlog = $1::text, backlog_since = $2::text::timestamptz, backlog_done_at = null`,
			string(choice), since)
		return err
	})
	return warning, err
}

// candidates are the waiting events without a place that are to be
// delivered: those that the decision covers, and those that committed after
// the counting, about which nobody could decide.
const candidates = `
	select e.id
	from public.outbox_events as e
	where e.seq is null and e.processed_at is null
	  and (coalesce(e.created_at, '-infinity') >= (select backlog_since from outbox.state where backlog <> 'skip')
	       or e.created_at >= (select backlog_asked_at - interval '` + recent + `' from outbox.state where backlog_seen is not null)
	          and e.id not in (select unnest(backlog_seen) from outbox.state))
	order by e.created_at nulls first, e.id`

// place gives the events $1 the next places, in their order. One that was
// processed meanwhile gets none.
const place = `
	with places as materialized (
		select id, nextval('public.outbox_events_seq_seq') as seq
		from (select id from unnest($1::uuid[]) with ordinality as given (id, n) order by n) as ordered
	)
	update public.outbox_events as e set seq = p.seq
	from places as p
	where e.id = p.id and e.seq is null and e.processed_at is null`

// batch is how many events get their place in one transaction.
const batch = 1000

// placeBacklog gives places to the waiting events that are to be delivered.
// Interrupted, it goes on at the next run: what has a place keeps it.
func (s *session) placeBacklog(ctx context.Context) (placed int64, err error) {
	var open bool
	if err := s.conn.QueryRow(ctx, `select backlog is not null and backlog_done_at is null from outbox.state`).Scan(&open); err != nil || !open {
		return 0, err
	}
	// WITH HOLD: the list is made once and read on over many transactions.
	if err := s.tx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `declare outbox_backlog no scroll cursor with hold for `+candidates)
		return err
	}); err != nil {
		return 0, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, cerr := s.conn.Exec(ctx, `close outbox_backlog`)
		if err == nil {
			err = cerr
		}
	}()
	for said := time.Now(); ; {
		rows, err := s.conn.Query(ctx, `fetch `+strconv.Itoa(batch)+` from outbox_backlog`, pgx.QueryExecModeDescribeExec)
		if err != nil {
			return placed, err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return placed, err
		}
		if len(ids) == 0 {
			break
		}
		var n int64
		err = s.retry(ctx, "delivering the backlog", eventsTable, func() error {
			return s.tx(ctx, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, `set local lock_timeout = '`+milliseconds(s.lockTimeout)+`'`); err != nil {
					return err
				}
				tag, err := tx.Exec(ctx, place, ids)
				n = tag.RowsAffected()
				return err
			})
		})
		if locked, ok := errors.AsType[*LockedError](err); ok {
			locked.Rest = fmt.Sprintf("%d waiting events have their places, the rest follow at the next run", placed)
		}
		if err != nil {
			return placed, err
		}
		placed += n
		if time.Since(said) > time.Second {
			said = time.Now()
			s.progress(fmt.Sprintf("backlog: %d events have their places", placed))
		}
	}
	return placed, s.tx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			update outbox.state set backlog_done_at = clock_timestamp(), backlog_seen = null;
			select pg_notify('outbox_events', '')`)
		return err
	})
}

// finite scans a time; an infinite one leaves the zero time.
type finite struct{ t *time.Time }

// ScanTimestamptz implements pgtype.TimestamptzScanner.
func (f finite) ScanTimestamptz(v pgtype.Timestamptz) error {
	if v.Valid && v.InfinityModifier == 0 {
		*f.t = v.Time
	}
	return nil
}
