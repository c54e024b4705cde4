package dispatch

import (
	"context"
	"encoding/json"
)

// Router says what events become, beside the routes of single types: routes.yaml
// is one.
type Router interface {
	// Plan returns the messages of all routes that match ev, none where none
	// does. It must not send anything. An error means that it cannot be said
	// now: the event is planned again later.
	Plan(ctx context.Context, ev Event) ([]Message, error)

	// Render gives a message that waited for others its content: m has Route,
	// Step and Terms.Scope, and steps what came of those that it waited for. It is
	// asked once for each message, unless the program dies meanwhile. An error
	// means that it cannot be said now.
	Render(ctx context.Context, m Message, steps map[string]StepResult) (Message, error)
}

// StepResult is what came of a step of the same route and event.
type StepResult struct {
	State  State
	Answer json.RawMessage // see Receipt.Answer; nil when there is none
}

// Use has r asked about every event. It panics where there is a router already,
// since that is a programming error.
func (d *Dispatcher) Use(r Router) {
	if d.router != nil {
		panic("dispatch: a second router")
	}
	d.router = r
}

// Render asks the router for the content of m, which waited for others. A panic
// refuses the message, nothing more.
func (d *Dispatcher) Render(ctx context.Context, m Message, steps map[string]StepResult) (out Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = m, nil
			out.Refused = panicked("rendering", r)
		}
	}()
	if d.router == nil {
		m.Refused = "there are no routes any more, and its content was not rendered yet"
		return m, nil
	}
	out, err = d.router.Render(ctx, m, steps)
	if err == nil {
		d.check(&out)
	}
	return out, err
}

// Orderer is a Router that has routes with an order among events.
type Orderer interface {
	// Ordered returns the event types of which messages may have Terms.Ordering: exact
	// ones, beginnings such as quote.*, and * for all. nil where there are none.
	Ordered() []string
}

// Ordered returns the event types that the router may put in an order; nil for none.
func (d *Dispatcher) Ordered() []string {
	if o, ok := d.router.(Orderer); ok {
		return o.Ordered()
	}
	return nil
}
