package operate

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/sql"
)

// Pause and Resume are done to types of events and to channels, not to single
// deliveries. See PauseRequest.
const (
	Pause  Action = "pause"
	Resume Action = "resume"
)

// PauseRequest has what is named paused or resumed: a type or a channel at the
// least.
type PauseRequest struct {
	Action   Action
	Types    []string // of events; quote.* stands for all that begin so
	Channels []string
	By       By
	DryRun   bool // look, and say what would be done
}

// PauseResult is what became of a PauseRequest.
type PauseResult struct {
	Done       []Paused `json:"done"`       // paused or resumed, or with DryRun to be
	Unchanged  []Paused `json:"unchanged"`  // was so already
	Deliveries int      `json:"deliveries"` // of these that wait to be sent; those of events that are not planned yet do not count
}

// Paused is a type of events or a channel.
type Paused struct {
	Kind    string     `json:"kind"` // type, channel
	Pattern string     `json:"pattern"`
	Since   *time.Time `json:"since,omitempty"`
	Who     string     `json:"who,omitempty"`
	Reason  string     `json:"reason,omitempty"`
}

// Pauses returns what is paused, longest first.
func (o *Operator) Pauses(ctx context.Context) (list []Paused, err error) {
	err = o.tx(ctx, pgx.ReadOnly, func(tx pgx.Tx) error {
		list, err = pausesOf(ctx, tx)
		return err
	})
	return list, err
}

func pausesOf(ctx context.Context, tx pgx.Tx) ([]Paused, error) {
	rows, err := tx.Query(ctx, sqlListPauses)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Paused, err error) {
		err = row.Scan(&p.Kind, &p.Pattern, &p.Since, &p.Who, &p.Reason)
		return p, err
	})
}

func (r *PauseRequest) check() error {
	if r.Action != Pause && r.Action != Resume {
		return wrong("there is no action %q", r.Action)
	}
	if len(r.Types)+len(r.Channels) == 0 {
		return wrong("say what: types or channels")
	}
	f := Filter{Types: r.Types, Channels: r.Channels}
	if err := f.check(); err != nil {
		return err
	}
	return r.By.check(r.DryRun)
}

// named yields what r names, each once.
func (r *PauseRequest) named(yield func(Paused) bool) {
	seen := map[Paused]bool{}
	for _, part := range []struct {
		kind  string
		names []string
	}{{"type", r.Types}, {"channel", r.Channels}} {
		for _, name := range part.names {
			p := Paused{Kind: part.kind, Pattern: name}
			if !seen[p] && !yield(p) {
				return
			}
			seen[p] = true
		}
	}
}

// Pause does what r asks for. Listeners hear of it with their next sweep; what is
// under way then is finished. Where Done is not empty and there is an error, that is
// done, and what a pause kept back is due after some minutes.
func (o *Operator) Pause(ctx context.Context, r PauseRequest) (PauseResult, error) {
	res := PauseResult{Done: []Paused{}, Unchanged: []Paused{}}
	if err := r.check(); err != nil {
		return res, err
	}
	err := o.tx(ctx, pgx.ReadOnly, func(tx pgx.Tx) error { return r.look(ctx, tx, &res) })
	if err != nil || r.DryRun {
		return res, err
	}
	waiting := res.Deliveries
	res = PauseResult{Done: []Paused{}, Unchanged: []Paused{}}
	if err := o.tx(ctx, pgx.ReadWrite, func(tx pgx.Tx) error { return r.do(ctx, tx, &res) }); err != nil {
		return PauseResult{Done: []Paused{}, Unchanged: []Paused{}}, err
	}
	if len(res.Done) > 0 {
		res.Deliveries = waiting
	}
	if r.Action == Resume {
		err = o.makeDue(ctx, res.Done)
	}
	return res, err
}

// look says what r would do, and counts what waits.
func (r *PauseRequest) look(ctx context.Context, tx pgx.Tx, res *PauseResult) error {
	now, err := pausesOf(ctx, tx)
	if err != nil {
		return err
	}
	there := map[Paused]bool{}
	for _, p := range now {
		there[Paused{Kind: p.Kind, Pattern: p.Pattern}] = true
	}
	changed := map[Paused]bool{}
	for p := range r.named {
		changed[p] = there[p] == (r.Action == Resume)
	}
	if res.sort(r, changed); len(res.Done) == 0 {
		return nil
	}
	types, channels := patternsOf(res.Done)
	return tx.QueryRow(ctx, sqlCountWaiting, like(types), channels).Scan(&res.Deliveries)
}

// do does it, and puts it on record.
func (r *PauseRequest) do(ctx context.Context, tx pgx.Tx, res *PauseResult) error {
	var kinds, patterns []string
	for p := range r.named {
		kinds, patterns = append(kinds, p.Kind), append(patterns, p.Pattern)
	}
	query, args := sqlAddPauses, []any{kinds, patterns, r.By.Who, r.By.Reason}
	if r.Action == Resume {
		query, args = sqlEndPauses, args[:2]
	}
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	var p Paused
	changed := map[Paused]bool{}
	if _, err := pgx.ForEachRow(rows, []any{&p.Kind, &p.Pattern}, func() error { changed[p] = true; return nil }); err != nil {
		return err
	}
	if res.sort(r, changed); len(res.Done) == 0 {
		return nil
	}
	types, channels := patternsOf(res.Done)
	filter, err := json.Marshal(Filter{Types: types, Channels: channels})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, sqlNoteAudit, uuid.New(), r.By.Who, r.By.Via, r.By.Origin, string(r.Action), string(filter), len(res.Done), nil, r.By.Reason)
	return err
}

// makeDue makes due what the pauses that ended have kept back, part by part: there may
// be a great many, and whatever fails is due by itself after some minutes.
func (o *Operator) makeDue(ctx context.Context, ended []Paused) error {
	var reasons []string
	for _, p := range ended {
		reasons = append(reasons, listener.PausedBy(p.Kind, p.Pattern))
	}
	for n := int64(listener.ResumeBatch); len(reasons) > 0 && n == listener.ResumeBatch; {
		err := o.tx(ctx, pgx.ReadWrite, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, sqlResumeDeliveries, reasons, listener.ResumeBatch)
			n = tag.RowsAffected()
			return err
		})
		if err != nil {
			return fmt.Errorf("the pause is over; what it kept back is due within minutes, not now: %w", err)
		}
	}
	return nil
}

// sort parts what r names into what was changed and what was so already.
func (res *PauseResult) sort(r *PauseRequest, changed map[Paused]bool) {
	for p := range r.named {
		if changed[p] {
			res.Done = append(res.Done, p)
		} else {
			res.Unchanged = append(res.Unchanged, p)
		}
	}
}

func patternsOf(list []Paused) (types, channels []string) {
	for _, p := range list {
		if p.Kind == "type" {
			types = append(types, p.Pattern)
		} else {
			channels = append(channels, p.Pattern)
		}
	}
	return types, channels
}

// The statements, by the names of their files.
var (
	sqlListPauses       = sql.Query("list_pauses")
	sqlAddPauses        = sql.Query("add_pauses")
	sqlEndPauses        = sql.Query("end_pauses")
	sqlResumeDeliveries = sql.Query("resume_deliveries")
	sqlCountWaiting     = sql.Query("count_waiting")
)
