package golden

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch/openai"
	"github.com/outbox-listener/outbox-listener/dispatch/routes"
)

// world answers lookups and writes copy from what an event's file has. It is a
// routes.Facts, a routes.Moment and a routes.Writer.
type world struct {
	*given

	mu   sync.Mutex // routes ask for copy at the same time
	used map[string]bool
}

func (w *world) use(kind, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.used == nil {
		w.used = map[string]bool{}
	}
	w.used[kind+" "+name] = true
}

// Read implements routes.Facts.
func (w *world) Read(_ context.Context, f func(routes.Moment) error) error { return f(w) }

// Now implements routes.Moment.
func (w *world) Now() time.Time { return w.now }

// missing says that a lookup has no canned rows.
type missing struct{ routes.Lookup }

func (m *missing) Error() string {
	return fmt.Sprintf(`the lookup %s of the route %s is asked for, and "lookups" has no rows for it; add %q (or %q) with a row, a list of rows, or null for none`,
		m.Name, m.Route, m.Name, m.Route+"."+m.Name)
}

// Rows implements routes.Moment.
func (w *world) Rows(_ context.Context, l routes.Lookup, _ map[string]json.RawMessage, most int) ([]json.RawMessage, error) {
	for _, name := range []string{l.Route + "." + l.Name, l.Name} {
		if rows, ok := w.lookups[name]; ok {
			w.use("lookup", name)
			return rows[:min(len(rows), most+1)], nil
		}
	}
	return nil, &missing{l}
}

// Write implements routes.Writer: with the words of the file, checked as those of
// a model are. What a model leaves out is empty.
func (w *world) Write(ctx context.Context, a openai.Ask) map[string]openai.Words {
	if w.copy == nil {
		return (*openai.Client)(nil).Write(ctx, a)
	}
	rules := openai.RulesOf(a)
	out := map[string]openai.Words{}
	for _, f := range a.Fields {
		if _, ok := w.copy[f.Name]; ok {
			w.use("copy", f.Name)
		}
		out[f.Name] = rules.Check(f, w.copy[f.Name])
	}
	return out
}
