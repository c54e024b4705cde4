package operate

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Filter names deliveries: those that all of its fields fit. Zero fields fit
// any.
type Filter struct {
	IDs      []uuid.UUID      `json:"ids,omitempty"`
	Types    []string         `json:"types,omitempty"`    // of events; quote.* stands for all that begin so
	Channels []string         `json:"channels,omitempty"` //
	States   []dispatch.State `json:"states,omitempty"`   //
	Error    string           `json:"error,omitempty"`    // words that are part of last_error, in whatever case
	Since    time.Time        `json:"since,omitzero"`     // when they were dead, held, finished, or made: not before
	Until    time.Time        `json:"until,omitzero"`     // and before
	Limit    int              `json:"limit,omitempty"`    // the newest of them
}

// DefaultLimit is how many deliveries are listed.
const DefaultLimit = 100

// mostIDs is how many ids a filter may have.
const mostIDs = 10_000

// Delivery is one line of a list.
type Delivery struct {
	ID         uuid.UUID      `json:"id"`
	Event      uuid.UUID      `json:"event_id"`
	Type       string         `json:"event_type"`
	Route      string         `json:"route"`
	Step       string         `json:"step"`
	Channel    string         `json:"channel"`
	Recipient  string         `json:"recipient"` // masked
	State      dispatch.State `json:"state"`
	Attempts   int            `json:"attempts"`
	Generation int            `json:"generation"`
	Error      string         `json:"last_error"`
	Due        *time.Time     `json:"due_at"`
	Since      time.Time      `json:"since"` // it stands so, or was made where it is not over

	// What its provider reported since it took it, and why; "" where nothing was.
	Receipt     dispatch.Fate `json:"receipt,omitempty"`
	ReceiptCode string        `json:"receipt_code,omitempty"`
}

// states are all there are.
var states = []dispatch.State{
	dispatch.Scheduled, dispatch.Ready, dispatch.Sending, dispatch.Retry, dispatch.Uncertain, dispatch.Held,
	dispatch.Delivered, dispatch.Dead, dispatch.Expired, dispatch.Canceled, dispatch.Skipped,
}

func names(states []dispatch.State) []string {
	var out []string
	for _, s := range states {
		out = append(out, string(s))
	}
	return out
}

func (f *Filter) check() error {
	if len(f.IDs) > mostIDs {
		return wrong("%d ids are more than %d", len(f.IDs), mostIDs)
	}
	if f.IDs != nil && len(f.IDs) == 0 || f.Types != nil && len(f.Types) == 0 || f.Channels != nil && len(f.Channels) == 0 || f.States != nil && len(f.States) == 0 {
		return wrong("an empty list fits nothing; one that is left out fits anything")
	}
	for _, s := range f.States {
		if !slices.Contains(states, s) {
			return wrong("there is no state %q; there are %s", s, strings.Join(names(states), ", "))
		}
	}
	for _, list := range [][]string{f.Types, f.Channels} {
		for _, name := range list {
			if name == "" {
				return wrong("an empty name fits nothing")
			}
			if err := plainText("a name", name, 200); err != nil {
				return err
			}
		}
	}
	for _, typ := range f.Types {
		if err := CheckPattern(typ); err != nil {
			return err
		}
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return wrong("since has to be before until")
	}
	if f.Limit < 0 {
		return wrong("a limit has to be 0 or more")
	}
	return plainText("error", f.Error, 500)
}

// CheckPattern refuses what is neither the type of an event nor the beginning of
// several, as quote.*.
func CheckPattern(typ string) error {
	if strings.Contains(strings.TrimSuffix(typ, ".*"), "*") || typ == ".*" {
		return wrong("%q: a star stands at the end, after a dot, as in quote.*", typ)
	}
	return nil
}

// plainText refuses what Postgres does not take as text.
func plainText(name, text string, most int) error {
	switch {
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return wrong("%s is not text", name)
	case len(text) > most:
		return wrong("%s is longer than %d bytes", name, most)
	}
	return nil
}

// all reports whether f fits everything.
func (f *Filter) all() bool {
	return len(f.IDs)+len(f.Types)+len(f.Channels)+len(f.States) == 0 && f.Error == "" && f.Since.IsZero() && f.Until.IsZero()
}

// onlyIDs reports whether f says nothing beside ids: a limit that leaves room for all of
// them, as the admin endpoint has, says nothing.
func (f Filter) onlyIDs() bool {
	room := f.Limit == 0 || f.Limit >= distinct(f.IDs)
	f.IDs = nil
	return f.all() && room
}

// like makes patterns of SQL of those of types.
func like(types []string) []string {
	if types == nil {
		return nil
	}
	out := make([]string, len(types))
	for i, typ := range types {
		prefix, many := strings.CutSuffix(typ, "*")
		out[i] = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(prefix)
		if many {
			out[i] += "%"
		}
	}
	return out
}

// find returns the deliveries that f names, newest first.
func find(ctx context.Context, tx pgx.Tx, f Filter) ([]Delivery, error) {
	query := sqlFindDeliveries
	stuck := func(s dispatch.State) bool { return s == dispatch.Dead || s == dispatch.Held }
	if len(f.States) > 0 && !slices.ContainsFunc(f.States, func(s dispatch.State) bool { return !stuck(s) }) {
		query = sqlFindStuck
	}
	var words *string
	if f.Error != "" {
		words = &f.Error
	}
	var since, until *time.Time
	if !f.Since.IsZero() {
		since = &f.Since
	}
	if !f.Until.IsZero() {
		until = &f.Until
	}
	var limit *int
	if f.Limit > 0 {
		limit = &f.Limit
	}
	var named []string
	for _, s := range f.States {
		named = append(named, string(s))
	}
	rows, err := tx.Query(ctx, query, orNil(f.IDs), orNil(like(f.Types)), orNil(f.Channels), named, words, since, until, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (d Delivery, err error) {
		err = row.Scan(&d.ID, &d.Event, &d.Type, &d.Route, &d.Step, &d.Channel, &d.Recipient, &d.State, &d.Attempts, &d.Generation,
			&d.Error, &d.Due, &d.Since, &d.Receipt, &d.ReceiptCode)
		return d, err
	})
}

// findIDs returns the ids of the deliveries that f names, the oldest first.
func findIDs(ctx context.Context, tx pgx.Tx, f Filter) ([]uuid.UUID, error) {
	list, err := find(ctx, tx, f)
	ids := make([]uuid.UUID, 0, len(list))
	for _, d := range slices.Backward(list) {
		ids = append(ids, d.ID)
	}
	return ids, err
}

// orNil is null where there is nothing.
func orNil[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}
