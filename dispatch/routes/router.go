package routes

import (
	"context"
	"sync/atomic"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Router plans by a routes file that can be replaced while it runs. It is a
// dispatch.Router.
type Router struct {
	rules  atomic.Pointer[rules]
	writer Writer
}

// rules are a routes file and who answers its lookups, which are replaced together:
// the lookups of one file are not run as the role that another one names.
type rules struct {
	routes *Routes
	facts  Facts
}

// NewRouter returns a Router. w may be nil: then all words are those of the
// templates.
func NewRouter(r *Routes, f Facts, w Writer) *Router {
	if w == nil {
		w = noWriter
	}
	out := &Router{writer: w}
	out.Replace(r, f)
	return out
}

// Replace has the events that are planned from now on planned by r, whose
// lookups f answers.
func (t *Router) Replace(r *Routes, f Facts) {
	t.rules.Store(&rules{r, f})
}

// Plan implements dispatch.Router.
func (t *Router) Plan(ctx context.Context, ev dispatch.Event) ([]dispatch.Message, error) {
	r := t.rules.Load()
	return r.routes.Plan(ctx, ev, r.facts, t.writer)
}

// Render implements dispatch.Router.
func (t *Router) Render(ctx context.Context, m dispatch.Message, steps map[string]dispatch.StepResult) (dispatch.Message, error) {
	return t.rules.Load().routes.Render(ctx, m, steps)
}

// Ordered implements dispatch.Orderer.
func (t *Router) Ordered() []string { return t.rules.Load().routes.Ordered() }
