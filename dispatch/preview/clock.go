package preview

import (
	"context"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch/openai"
	"github.com/outbox-listener/outbox-listener/dispatch/routes"
)

// Clock is facts seen at a time of one's choice. It is for one event.
//
// What the SQL of lookups says of now() stays what the database says.
type Clock struct {
	Facts routes.Facts
	At    time.Time // zero: the time that Facts have

	// Saw is the time that the routes were told; zero where none asked.
	Saw time.Time
}

// Read implements routes.Facts.
func (c *Clock) Read(ctx context.Context, f func(routes.Moment) error) error {
	return c.Facts.Read(ctx, func(m routes.Moment) error {
		c.Saw = c.At
		if c.Saw.IsZero() {
			c.Saw = m.Now()
		}
		return f(moment{m, c.Saw})
	})
}

type moment struct {
	routes.Moment
	now time.Time
}

func (m moment) Now() time.Time { return m.now }

// NotAsked is why words are the templates' where no model is asked.
const NotAsked = "preview: not asked"

// NoWriter leaves every field its template, for the reason NotAsked.
type NoWriter struct{}

// Write implements routes.Writer.
func (NoWriter) Write(_ context.Context, a openai.Ask) map[string]openai.Words {
	out := map[string]openai.Words{}
	for _, f := range a.Fields {
		out[f.Name] = openai.Words{Fallback: NotAsked}
	}
	return out
}
