// Package admin serves HTTP for people and probes: what they ask to be done,
// behind a key, and the two probes, open and silent about everything but
// health.
package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// Config says whom the server lets in and what it asks. Key, Drain, Health
// and Ping are required, unless there are only Callbacks; any other zero field takes
// its default.
type Config struct {
	Key dispatch.Secret // to the admin routes; see CheckKey. "" with Callbacks: no other route

	Callbacks *Callbacks // of a provider; nil: none

	// Drain delivers up to limit events and counts them once their outcomes
	// are on record. See listener.Listener.Drain.
	Drain func(ctx context.Context, limit int) (listener.Stats, error)

	// Look shows what people ask for; Operate and Pause do it. Where one is nil, there are
	// no routes to it. See operate.Operator.
	Look    Look
	Operate func(context.Context, operate.Request) (operate.Result, error)
	Pause   func(context.Context, operate.PauseRequest) (operate.PauseResult, error)

	Health func() listener.Health
	Ping   func(context.Context) error // asks the database for a sign of life

	SweepEvery time.Duration // between two sweeps at the most; default listener.DefaultPollInterval
	Grace      time.Duration // for requests under way when the server stops; default listener.DefaultShutdownGrace
	MaxConns   int           // connections at once; default 64

	Log *slog.Logger // default slog.Default()
}

// Limits of a request. Slow and large ones are no use to anybody who knows
// the endpoint.
const (
	headerTimeout   = 5 * time.Second
	readTimeout     = 10 * time.Second
	writeTimeout    = 30 * time.Second
	idleTimeout     = time.Minute
	dispatchTimeout = 2 * time.Minute // for the deliveries of one dispatch
	maxHeader       = 16 << 10        // bytes
	maxBody         = 64 << 10        // bytes
	defaultMaxConns = 64
)

// Limits of a dispatch: what is asked for when nothing is, and the most that
// can be asked for.
const (
	defaultLimit = 10
	maxLimit     = 50
)

// weakKey is the length below which a key is worth a warning.
const weakKey = 24

// Server is the admin endpoint.
type Server struct {
	cfg      Config
	keySum   [32]byte
	failures *failures
	unsigned *failures // callbacks, for the log alone
	probe    probe

	readTimeout, writeTimeout time.Duration // readTimeout and writeTimeout; shorter in tests
}

// New returns a Server. It refuses a key that CheckKey refuses, and warns of
// a short one.
func New(cfg Config) (*Server, error) {
	keyed := cfg.Callbacks == nil || cfg.Key != ""
	if keyed && (cfg.Drain == nil || cfg.Health == nil || cfg.Ping == nil) {
		return nil, errors.New("admin: Config needs Drain, Health and Ping")
	}
	if err := CheckKey(cfg.Key); keyed && err != nil {
		return nil, errors.New("ADMIN_API_KEY " + err.Error())
	}
	if c := cfg.Callbacks; c != nil && (c.Read == nil || c.Record == nil || CallbackPathTaken(c.Path)) {
		return nil, errors.New("admin: Callbacks need Read, Record and a path of their own")
	}
	orDefault(&cfg.SweepEvery, listener.DefaultPollInterval)
	orDefault(&cfg.Grace, listener.DefaultShutdownGrace)
	orDefault(&cfg.MaxConns, defaultMaxConns)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if n := len(cfg.Key.Reveal()); keyed && n < weakKey {
		cfg.Log.Warn("ADMIN_API_KEY is short; a long random one is better", "characters", n, "recommended", weakKey)
	}
	return &Server{cfg: cfg, keySum: sum(cfg.Key.Reveal()), failures: newFailures(), unsigned: newFailures(), readTimeout: readTimeout, writeTimeout: writeTimeout}, nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// handler has every route.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	keyless, callbacks := s.cfg.Key == "", cmp.Or(s.cfg.Callbacks, new(Callbacks))
	for _, r := range []struct {
		method, path string
		serve        http.HandlerFunc
		off          bool
	}{
		{"POST", callbacks.Path, s.callback, callbacks.Path == ""},                              // what a provider reports
		{"POST", "/api/admin/outbox/dispatch", s.keyed(s.dispatch), keyless},                    // deliver what is due, now
		{"POST", "/api/admin/outbox/deliveries", s.keyed(s.list), keyless || s.cfg.Look == nil}, // a body has the filter, as below
		{"POST", "/api/admin/outbox/lines", s.keyed(s.lines), keyless || s.cfg.Look == nil},
		{"POST", "/api/admin/outbox/pauses", s.keyed(s.pauses), keyless || s.cfg.Look == nil},
		{"POST", "/api/admin/outbox/replay", s.keyed(s.change(operate.Replay)), keyless || s.cfg.Operate == nil},
		{"POST", "/api/admin/outbox/cancel", s.keyed(s.change(operate.Cancel)), keyless || s.cfg.Operate == nil},
		{"POST", "/api/admin/outbox/hold", s.keyed(s.change(operate.Hold)), keyless || s.cfg.Operate == nil},
		{"POST", "/api/admin/outbox/release", s.keyed(s.change(operate.Release)), keyless || s.cfg.Operate == nil},
		{"POST", "/api/admin/outbox/pause", s.keyed(s.pause(operate.Pause)), keyless || s.cfg.Pause == nil},
		{"POST", "/api/admin/outbox/resume", s.keyed(s.pause(operate.Resume)), keyless || s.cfg.Pause == nil},
		{"GET", "/api/healthz", s.healthz, keyless}, // the process lives
		{"GET", "/api/readyz", s.readyz, keyless},   // and it delivers
	} {
		if r.off {
			continue
		}
		mux.HandleFunc(r.method+" "+r.path, r.serve)
		mux.HandleFunc(r.path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", r.method)
			fail(w, http.StatusMethodNotAllowed, "method_not_allowed")
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fail(w, http.StatusNotFound, "not_found") })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		idle := busy(r)
		defer func() {
			_ = http.NewResponseController(w).Flush() // before the connection counts as idle
			idle()
		}()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

// Serve answers requests on l until ctx ends, then finishes those under way,
// at most for the grace period, and returns nil. Any other end is an error.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	guard := newGuard(l, s.cfg.MaxConns)
	srv := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: min(headerTimeout, s.readTimeout),
		ReadTimeout:       s.readTimeout,
		WriteTimeout:      s.writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withConn,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	var stopping sync.WaitGroup
	stopping.Add(1)
	unhook := context.AfterFunc(ctx, func() {
		defer stopping.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Grace)
		defer cancel()
		guard.closeWaiting()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close() // the grace is over
		}
	})
	err := srv.Serve(guard)
	if unhook() { // it ended by itself
		_ = srv.Close()
		return err
	}
	stopping.Wait()
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// reply is the answer to a dispatch, with its keys in this order.
type reply struct {
	OK        bool `json:"ok"`
	Total     int  `json:"total"`
	Processed int  `json:"processed"`
	Skipped   int  `json:"skipped"`
	Errors    int  `json:"errors"`
}

// dispatch delivers what is due and answers with the counts once it is on
// record.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request) {
	limit, ok := readLimit(w, r)
	if !ok {
		return
	}
	ctx, cancel := unhurried(w, r)
	defer cancel()
	begun := time.Now()
	stats, err := s.drain(ctx, limit)
	if err != nil {
		s.cfg.Log.Error("dispatch failed", "from", r.RemoteAddr, "limit", limit, "took", time.Since(begun), "error", err)
		fail(w, http.StatusInternalServerError, "outbox_failed")
		return
	}
	s.cfg.Log.Info("dispatch", "from", r.RemoteAddr, "limit", limit, "total", stats.Total, "processed", stats.Processed,
		"skipped", stats.Skipped, "errors", stats.Errors, "took", time.Since(begun))
	answer(w, http.StatusOK, reply{true, stats.Total, stats.Processed, stats.Skipped, stats.Errors})
}

// drain is Drain, whose panic is an error like any other.
func (s *Server) drain(ctx context.Context, limit int) (stats listener.Stats, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("dispatch panicked", "panic", p)
			err = errors.New("panic")
		}
	}()
	return s.cfg.Drain(ctx, limit)
}

// readLimit reads how many events are asked for. The body is optional, and
// one that is no JSON object counts as none: the endpoint that this one
// succeeds answered such requests, and there are schedulers whose shell eats
// the quotes. ok is false when the request was answered.
func readLimit(w http.ResponseWriter, r *http.Request) (limit int, ok bool) {
	text, ok := readBody(w, r)
	if !ok {
		return 0, false
	}
	var body map[string]json.RawMessage
	var n *float64
	if json.Unmarshal(text, &body) != nil || json.Unmarshal(body["limit"], &n) != nil || n == nil || !(*n > 0) {
		return defaultLimit, true
	}
	return max(1, int(min(*n, maxLimit))), true
}

// readBody reads a body of at most maxBody bytes. ok is false when the request
// was answered.
func readBody(w http.ResponseWriter, r *http.Request) (text []byte, ok bool) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			fail(w, http.StatusRequestEntityTooLarge, "body_too_large")
		} else {
			fail(w, http.StatusBadRequest, "body_unreadable")
		}
		return nil, false
	}
	return text, true
}

// healthz says that the process answers.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", "2")
	_, _ = io.WriteString(w, "ok") // to whoever has gone meanwhile
}

// ready is the answer to readyz.
type ready struct {
	Ready    bool `json:"ready"`
	Database bool `json:"database"` // it answers

	// How events are found: "listen" when notifications arrive, "sweep" when
	// only the sweep finds them, which is slower and no failure.
	Wake string `json:"wake"`

	LastSweep *float64 `json:"last_sweep_seconds"` // ago; null before the first one
}

// sweepSlack is how late a sweep may be on top of three intervals.
const sweepSlack = 10 * time.Second

// readyz says whether events are delivered.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	h, now := s.cfg.Health(), time.Now()
	a := ready{Database: s.probe.ping(r.Context(), s.cfg.Ping) == nil, Wake: "sweep"}
	if h.Listening {
		a.Wake = "listen"
	}
	recent := false
	if !h.LastSweep.IsZero() {
		age := now.Sub(h.LastSweep)
		seconds := float64(age.Milliseconds()) / 1000
		a.LastSweep = &seconds
		recent = age <= 3*s.cfg.SweepEvery+sweepSlack
	}
	a.Ready = a.Database && recent
	status := http.StatusOK
	if !a.Ready {
		status = http.StatusServiceUnavailable
	}
	answer(w, status, a)
}

// probe asks the database at most once a second, however many ask us: anybody
// may.
type probe struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

// pingTimeout bounds a question to the database.
const pingTimeout = 3 * time.Second

func (p *probe) ping(ctx context.Context, ask func(context.Context) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.at) < time.Second {
		return p.err
	}
	// Others wait for this answer: it must not end with one request.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
	defer cancel()
	p.err = ask(ctx)
	p.at = time.Now()
	return p.err
}

// fail answers with a code and nothing about the cause.
func fail(w http.ResponseWriter, status int, code string) {
	answer(w, status, struct {
		Error string `json:"error"`
	}{code})
}

func answer(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"error":"outbox_failed"}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // to whoever has gone meanwhile
}
