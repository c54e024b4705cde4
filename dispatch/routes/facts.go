package routes

import (
	"context"
	"encoding/json"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch/query"
)

// Facts are where lookups get their rows from.
type Facts interface {
	// Read calls f once, with a Moment that all its lookups see, and returns its
	// error or why it could not be called.
	Read(ctx context.Context, f func(Moment) error) error
}

// Moment is one state of the facts.
type Moment interface {
	Now() time.Time

	// Rows returns the rows of l as JSON objects: at most most, and one more where
	// there are more. A *query.BadValue says that there never will be any, and a
	// *query.TooLarge that they are more than an event may have; any other error that
	// it cannot be said now.
	Rows(ctx context.Context, l Lookup, args map[string]json.RawMessage, most int) ([]json.RawMessage, error)
}

// Database is the Facts of a database.
func Database(r *query.Reader) Facts { return database{r} }

type database struct{ reader *query.Reader }

func (d database) Read(ctx context.Context, f func(Moment) error) error {
	return d.reader.Read(ctx, func(tx *query.Tx) error { return f(transaction{tx}) })
}

type transaction struct{ *query.Tx }

func (t transaction) Rows(ctx context.Context, l Lookup, args map[string]json.RawMessage, most int) ([]json.RawMessage, error) {
	return t.Tx.Rows(ctx, l.Query, args, most)
}
