package admin

import (
	"context"
	"net/http"

	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// mostListed is how many deliveries, or lines, one answer has.
const mostListed = 1000

// Look is what people ask to see. See operate.Operator.
type Look interface {
	List(ctx context.Context, f operate.Filter) ([]operate.Delivery, error)
	Lines(ctx context.Context, limit int) ([]operate.Line, error)
	Pauses(ctx context.Context) ([]operate.Paused, error)
	Brakes(ctx context.Context) ([]operate.Brake, error)
}

// list answers a filter with the deliveries that it names, newest first.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	var f operate.Filter
	if !readJSON(w, r, &f) {
		return
	}
	f.Limit = min(f.Limit, mostListed)
	ctx, cancel := unhurried(w, r)
	defer cancel()
	list, err := s.cfg.Look.List(ctx, f)
	if s.failed(w, r, "deliveries", 0, err) {
		return
	}
	answer(w, http.StatusOK, struct {
		OK         bool               `json:"ok"`
		Deliveries []operate.Delivery `json:"deliveries"`
	}{true, some(list)})
}

// lines answers with what waits in order, and what is first there.
func (s *Server) lines(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Limit int `json:"limit"`
	}
	if !readJSON(w, r, &body) {
		return
	}
	ctx, cancel := unhurried(w, r)
	defer cancel()
	list, err := s.cfg.Look.Lines(ctx, min(body.Limit, mostListed))
	if s.failed(w, r, "lines", 0, err) {
		return
	}
	answer(w, http.StatusOK, struct {
		OK    bool           `json:"ok"`
		Lines []operate.Line `json:"lines"`
	}{true, some(list)})
}

// pauses answers with what people paused, and with where listeners send nothing by
// themselves.
func (s *Server) pauses(w http.ResponseWriter, r *http.Request) {
	if !readJSON(w, r, &struct{}{}) {
		return
	}
	ctx, cancel := unhurried(w, r)
	defer cancel()
	paused, err := s.cfg.Look.Pauses(ctx)
	if s.failed(w, r, "pauses", 0, err) {
		return
	}
	braked, err := s.cfg.Look.Brakes(ctx)
	if s.failed(w, r, "pauses", 0, err) {
		return
	}
	answer(w, http.StatusOK, struct {
		OK     bool             `json:"ok"`
		Paused []operate.Paused `json:"paused"`
		Braked []operate.Brake  `json:"braked"`
	}{true, some(paused), some(braked)})
}

// some is list, and an empty one where it is nil.
func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
