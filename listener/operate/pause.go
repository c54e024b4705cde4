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

// named are the kinds and patterns that r names, each once.
func (r *PauseRequest) named() (kinds, patterns []string) {
	seen := map[Paused]bool{}
	add := func(kind string, names []string) {
		for _, name := range names {
			if p := (Paused{Kind: kind, Pattern: name}); !seen[p] {
				seen[p] = true
				kinds, patterns = append(kinds, kind), append(patterns, name)
			}
		}
	}
	add("type", r.Types)
	add("channel", r.Channels)
	return kinds, patterns
}

// Pause does what r asks for in one transaction. Listeners hear of it with their
// next sweep; what is under way then is finished.
func (o *Operator) Pause(ctx context.Context, r PauseRequest) (PauseResult, error) {
	res := PauseResult{Done: []Paused{}, Unchanged: []Paused{}}
	if err := r.check(); err != nil {
		return res, err
	}
	mode := pgx.ReadWrite
	if r.DryRun {
		mode = pgx.ReadOnly
	}
	err := o.tx(ctx, mode, func(tx pgx.Tx) error { return r.do(ctx, tx, &res) })
	return res, err
}

func (r *PauseRequest) do(ctx context.Context, tx pgx.Tx, res *PauseResult) error {
	kinds, patterns := r.named()
	changed := map[Paused]bool{}
	if r.DryRun {
		now, err := pausesOf(ctx, tx)
		if err != nil {
			return err
		}
		there := map[Paused]bool{}
		for _, p := range now {
			there[Paused{Kind: p.Kind, Pattern: p.Pattern}] = true
		}
		for i := range kinds {
			p := Paused{Kind: kinds[i], Pattern: patterns[i]}
			changed[p] = there[p] == (r.Action == Resume)
		}
	} else {
		query, args := sqlAddPauses, []any{kinds, patterns, r.By.Who, r.By.Reason}
		if r.Action == Resume {
			query, args = sqlEndPauses, args[:2]
		}
		rows, err := tx.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		var p Paused
		if _, err := pgx.ForEachRow(rows, []any{&p.Kind, &p.Pattern}, func() error { changed[p] = true; return nil }); err != nil {
			return err
		}
	}
	var types, channels, reasons []string
	for i := range kinds {
		p := Paused{Kind: kinds[i], Pattern: patterns[i]}
		if !changed[p] {
			res.Unchanged = append(res.Unchanged, p)
			continue
		}
		res.Done = append(res.Done, p)
		reasons = append(reasons, listener.PausedBy(p.Kind, p.Pattern))
		if p.Kind == "type" {
			types = append(types, p.Pattern)
		} else {
			channels = append(channels, p.Pattern)
		}
	}
	if len(res.Done) == 0 {
		return nil
	}
	if err := tx.QueryRow(ctx, sqlCountWaiting, like(types), channels).Scan(&res.Deliveries); err != nil || r.DryRun {
		return err
	}
	if r.Action == Resume {
		if _, err := tx.Exec(ctx, sqlResumeDeliveries, reasons); err != nil {
			return fmt.Errorf("resume: %w", err)
		}
	}
	filter, err := json.Marshal(Filter{Types: types, Channels: channels})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, sqlNoteAudit, uuid.New(), r.By.Who, r.By.Via, r.By.Origin, string(r.Action), string(filter), len(res.Done), nil, r.By.Reason)
	return err
}

// The statements, by the names of their files.
var (
	sqlListPauses       = sql.Query("list_pauses")
	sqlAddPauses        = sql.Query("add_pauses")
	sqlEndPauses        = sql.Query("end_pauses")
	sqlResumeDeliveries = sql.Query("resume_deliveries")
	sqlCountWaiting     = sql.Query("count_waiting")
)
