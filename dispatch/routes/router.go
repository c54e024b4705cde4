package routes

import (
	"context"
	"sync/atomic"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Router plans by a routes file that can be replaced while it runs. It is a
// dispatch.Router.
type Router struct {
	now    atomic.Pointer[inForce]
	writer Writer
}

// inForce are the routes in force with what answers their lookups.
type inForce struct {
	routes *Routes
	facts  Facts
}

// NewRouter returns a Router. w may be nil: then all words are those of the
// templates.
func NewRouter(r *Routes, f Facts, w Writer) *Router {
	if w == nil {
		w = noWriter{}
	}
	out := &Router{writer: w}
	out.Replace(r, f)
	return out
}

// Replace has the events that are planned from now on planned by r, whose
// lookups f answers.
func (t *Router) Replace(r *Routes, f Facts) {
	t.now.Store(&inForce{r, f})
}

// Plan implements dispatch.Router.
func (t *Router) Plan(ctx context.Context, ev dispatch.Event) ([]dispatch.Message, error) {
	now := t.now.Load()
	return now.routes.Plan(ctx, ev, now.facts, t.writer)
}

// Render implements dispatch.Router.
func (t *Router) Render(ctx context.Context, m dispatch.Message, steps map[string]dispatch.StepResult) (dispatch.Message, error) {
	return t.now.Load().routes.Render(ctx, m, steps)
}
