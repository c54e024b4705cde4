package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// mostChanged is how many deliveries one request changes: the newest of those
// that its filter names.
const mostChanged = 10_000

// changeBody is the body of a request to change deliveries: a filter, and what
// the commands have as flags.
type changeBody struct {
	operate.Filter
	DryRun        bool     `json:"dry_run"`
	EvenDelivered bool     `json:"even_delivered"` // of a replay
	EvenUncertain bool     `json:"even_uncertain"` // of a replay or a release
	Rate          *float64 `json:"rate"`           // of a replay; 0 for all at once
	Reason        string   `json:"reason"`         // for the audit
}

// changeReply is the answer to it.
type changeReply struct {
	OK     bool           `json:"ok"`
	Action operate.Action `json:"action"`
	DryRun bool           `json:"dry_run"`
	operate.Result
}

// change serves one action on deliveries.
func (s *Server) change(action operate.Action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body changeBody
		if !readJSON(w, r, &body) {
			return
		}
		req := operate.Request{Action: action, Filter: body.Filter, By: s.by(r, body.Reason), DryRun: body.DryRun,
			EvenDelivered: body.EvenDelivered, EvenUncertain: body.EvenUncertain}
		if body.Rate != nil {
			switch req.Rate = *body.Rate; {
			case req.Rate < 0:
				invalid(w, "a rate has to be 0 or more")
				return
			case req.Rate == 0:
				req.Rate = -1
			}
		}
		if req.Filter.Limit == 0 || req.Filter.Limit > mostChanged {
			req.Filter.Limit = mostChanged
		}
		ctx, cancel := unhurried(w, r)
		defer cancel()
		res, err := s.cfg.Operate(ctx, req)
		if s.failed(w, r, action, res.Done, err) {
			return
		}
		s.cfg.Log.Info("operated", "action", action, "from", r.RemoteAddr, "dry_run", req.DryRun, "matched", res.Matched, "done", res.Done)
		answer(w, http.StatusOK, changeReply{true, action, req.DryRun, res})
	}
}

// pauseBody is the body of a request to pause or resume.
type pauseBody struct {
	Types    []string `json:"types"`
	Channels []string `json:"channels"`
	DryRun   bool     `json:"dry_run"`
	Reason   string   `json:"reason"` // for the audit
}

// pauseReply is the answer to it.
type pauseReply struct {
	OK     bool           `json:"ok"`
	Action operate.Action `json:"action"`
	DryRun bool           `json:"dry_run"`
	operate.PauseResult
}

// pause serves one of the two.
func (s *Server) pause(action operate.Action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body pauseBody
		if !readJSON(w, r, &body) {
			return
		}
		ctx, cancel := unhurried(w, r)
		defer cancel()
		res, err := s.cfg.Pause(ctx, operate.PauseRequest{Action: action, Types: body.Types, Channels: body.Channels, By: s.by(r, body.Reason), DryRun: body.DryRun})
		if s.failed(w, r, action, len(res.Done), err) {
			return
		}
		s.cfg.Log.Info("operated", "action", action, "from", r.RemoteAddr, "dry_run", body.DryRun, "done", len(res.Done))
		answer(w, http.StatusOK, pauseReply{true, action, body.DryRun, res})
	}
}

// by is who is on record: the key, by an id that tells it from others and is too
// short to find it by.
func (s *Server) by(r *http.Request, reason string) operate.By {
	return operate.By{Who: "key " + hex.EncodeToString(s.keySum[:3]), Via: "api", Origin: r.RemoteAddr, Reason: reason}
}

// failed answers a request that could not be done, and reports whether it was
// one. The log has how much of it was done before; the audit says to what.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, action operate.Action, done int, err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, operate.ErrRequest):
		invalid(w, err.Error())
	default:
		s.cfg.Log.Error("operating failed", "action", action, "from", r.RemoteAddr, "done", done, "error", err)
		fail(w, http.StatusInternalServerError, "outbox_failed")
	}
	return true
}

// unhurried lifts the limits that the server has for a request as a whole: what
// it asks for may take longer.
func unhurried(w http.ResponseWriter, r *http.Request) (context.Context, context.CancelFunc) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Now().Add(dispatchTimeout + writeTimeout))
	return context.WithTimeout(r.Context(), dispatchTimeout)
}
