// Package operate is what people do to deliveries beside the listeners that
// send them: look, send again, withdraw, hold and release. Each change takes
// the locks that a listener takes, so that it is either before or after what
// that does, and is on record in outbox.audit in the same transaction.
package operate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Action is what is done to deliveries.
type Action string

const (
	Replay  Action = "replay"  // send one that is over again, as a new delivery
	Cancel  Action = "cancel"  // withdraw one that is not over
	Hold    Action = "hold"    // do not send one until it is released
	Release Action = "release" // send one that is held, under the id that it has
)

// By is who does something, for the audit. Who and Via are required.
type By struct {
	Who    string // a user, or the id of a key
	Via    string // "command" or "api"
	Origin string // a host, or the address of a request
	Reason string // in their words
}

// Request is something to do to the deliveries that Filter names, which has to
// name some.
type Request struct {
	Action Action
	Filter Filter
	By     By

	DryRun bool // look, and say what would be done

	// Only are the deliveries that a DryRun came to, where one went before: the
	// filter is not asked again. nil asks it.
	Only []uuid.UUID

	// Rate is how many replays are due each second; 0 means DefaultRate, and
	// below 0 all of them at once.
	Rate float64

	// EvenDelivered replays what was delivered, too.
	EvenDelivered bool

	// EvenUncertain replays and releases what may have arrived, too.
	EvenUncertain bool
}

// DefaultRate is how many replays are due each second, and LowestRate the fewest.
const (
	DefaultRate = 10
	LowestRate  = 0.001
)

// Result is what became of a Request.
type Result struct {
	Matched int         `json:"matched"`       // deliveries that the filter names
	Done    int         `json:"done"`          // of these: changed, or with DryRun to be changed
	Refused []Refusal   `json:"refused"`       // and left alone, by reason, most first
	IDs     []uuid.UUID `json:"ids"`           // those that are Done
	New     []uuid.UUID `json:"new,omitempty"` // of a replay: the new ones, in the order of IDs
}

// Refusal is a reason for which deliveries are left alone.
type Refusal struct {
	Reason string `json:"reason"`
	Count  int    `json:"count"`
}

// ErrRequest is the cause of an error that says what is wrong with a request.
// Any other error comes from the database; what was done before it is done, and
// in the audit.
var ErrRequest = errors.New("cannot be done")

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRequest, fmt.Sprintf(format, args...))
}

// Operator changes deliveries in a database.
type Operator struct {
	// Ordered returns the types of events that may come into a line, as the routes have them: Lines
	// knows by it which event that is not planned a line waits for. nil where that is not known.
	Ordered func() []string

	pool *pgxpool.Pool
}

// New returns an Operator for the database behind pool. It does not touch it yet.
func New(pool *pgxpool.Pool) *Operator { return &Operator{pool: pool} }

// List returns the deliveries that f names, newest first. A zero Limit means
// DefaultLimit.
func (o *Operator) List(ctx context.Context, f Filter) ([]Delivery, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.Limit == 0 {
		f.Limit = DefaultLimit
	}
	var out []Delivery
	err := o.tx(ctx, pgx.ReadOnly, func(tx pgx.Tx) (err error) {
		out, err = find(ctx, tx, f)
		return err
	})
	return out, err
}

// Do does what r asks for, batch by batch, each in a transaction of its own.
//
// What a listener sends at that moment, or has leased, is left alone, and so is
// everything that the action does not fit: Refused says why. With an error
// from the database Result has what was done before it.
func (o *Operator) Do(ctx context.Context, r Request) (Result, error) {
	res := Result{Refused: []Refusal{}, IDs: []uuid.UUID{}}
	if err := r.check(); err != nil {
		return res, err
	}
	f := r.Filter
	if f.States == nil && len(f.IDs) == 0 {
		f.States = defaultStates[r.Action]
		if r.Action == Replay && r.EvenDelivered {
			f.States = append(slices.Clone(f.States), "delivered")
		}
	}
	work := &run{Request: r, id: uuid.New(), refused: map[string]int{}, result: &res}
	ids := r.Only
	if ids == nil {
		err := o.tx(ctx, pgx.ReadOnly, func(tx pgx.Tx) (err error) {
			ids, err = findIDs(ctx, tx, f)
			return err
		})
		if err != nil {
			return res, err
		}
		if gone := distinct(f.IDs) - len(ids); gone > 0 && f.onlyIDs() {
			work.refused["not in the ledger"] += gone
		}
	}
	res.Matched = len(ids)
	var err error
	for part := range slices.Chunk(ids, batch) {
		if err = o.batch(ctx, work, part); err != nil {
			break
		}
	}
	work.sum()
	return res, err
}

func distinct(ids []uuid.UUID) int {
	seen := map[uuid.UUID]bool{}
	for _, id := range ids {
		seen[id] = true
	}
	return len(seen)
}

// batch is how many deliveries are changed in one transaction.
const batch = 500

func (r *Request) check() error {
	if _, known := defaultStates[r.Action]; !known {
		return wrong("there is no action %q", r.Action)
	}
	if err := r.Filter.check(); err != nil {
		return err
	}
	if r.Filter.all() {
		return wrong("say which deliveries: ids, types, channels, states, words of the error, or since when")
	}
	if math.IsNaN(r.Rate) || math.IsInf(r.Rate, 0) {
		return wrong("a rate has to be a number")
	}
	if r.Rate > 0 && r.Rate < LowestRate {
		return wrong("a rate has to be %g or more", LowestRate)
	}
	if r.EvenDelivered && r.Action != Replay {
		return wrong("only a replay is about what was delivered")
	}
	if r.EvenUncertain && r.Action != Replay && r.Action != Release {
		return wrong("only a replay or a release is about what may have arrived")
	}
	return r.By.check(r.DryRun)
}

func (b *By) check(dry bool) error {
	for name, text := range map[string]string{"who": b.Who, "origin": b.Origin, "reason": b.Reason} {
		if err := plainText(name, text, 500); err != nil {
			return err
		}
	}
	if !dry && (b.Who == "" || b.Via == "") {
		return wrong("nobody is named who does it")
	}
	return nil
}

// words is what a delivery that was changed has as its last error.
func (r *Request) words() string {
	done := map[Action]string{Cancel: "canceled", Hold: "held"}[r.Action] + " by " + r.By.Who
	if r.By.Reason != "" {
		done += ": " + r.By.Reason
	}
	return done
}
