package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/listener"
)

const hook = "/twilio/status"

// hooked is a server with callbacks: the header Signed is the signature, and what is
// on record goes to recorded.
func hooked(t *testing.T, recorded chan dispatch.Report, change func(*Config)) *running {
	return serve(t, func(c *Config) {
		c.Callbacks = &Callbacks{
			Path: hook,
			Read: func(query string, h http.Header, body []byte) (dispatch.Report, error) {
				if h.Get("Signed") != "yes" {
					return dispatch.Report{}, errors.New("not signed: the token is t0ken")
				}
				id, _ := uuid.Parse(query)
				return dispatch.Report{Delivery: id, Fate: dispatch.Fate(body)}, nil
			},
			Record: func(ctx context.Context, r dispatch.Report) (bool, error) {
				if _, ok := ctx.Deadline(); !ok {
					t.Error("a report may take for ever")
				}
				switch r.Fate {
				case "away":
					return false, errors.New("the database is away: password=t0ken")
				case "unknown":
					return false, nil
				}
				recorded <- r
				return true, nil
			},
		}
		if change != nil {
			change(c)
		}
	})
}

// TestCallbacks: who gets in, and what they are told.
func TestCallbacks(t *testing.T) {
	t.Parallel()
	id := uuid.NewString()
	recorded := make(chan dispatch.Report, 10)
	r := hooked(t, recorded, nil)
	for _, tt := range []struct {
		name, method, path, body, signed string
		status                           int
		answer                           string
		recorded                         bool
	}{
		{"signed", "POST", hook + "?" + id, "delivered", "yes", 204, "", true},
		{"of no delivery", "POST", hook, "delivered", "yes", 204, "", false},
		{"of an unknown one", "POST", hook + "?" + id, "unknown", "yes", 204, "", false},
		{"the database is away", "POST", hook + "?" + id, "away", "yes", 503, `{"error":"unavailable"}`, false},
		{"not signed", "POST", hook + "?" + id, "delivered", "", 403, `{"error":"forbidden"}`, false},
		{"not signed, of an unknown one", "POST", hook + "?" + uuid.NewString(), "unknown", "", 403, `{"error":"forbidden"}`, false},
		{"not signed, of none", "POST", hook, "", "", 403, `{"error":"forbidden"}`, false},
		{"signed otherwise", "POST", hook + "?" + id, "delivered", "no", 403, `{"error":"forbidden"}`, false},
		{"64 KiB", "POST", hook + "?" + id, strings.Repeat("x", maxBody), "yes", 204, "", true},
		{"more", "POST", hook + "?" + id, strings.Repeat("x", maxBody+1), "yes", 413, `{"error":"body_too_large"}`, false},
		{"a GET", "GET", hook + "?" + id, "", "yes", 405, `{"error":"method_not_allowed"}`, false},
		{"a HEAD", "HEAD", hook + "?" + id, "", "yes", 405, "", false},
		{"a PUT", "PUT", hook + "?" + id, "delivered", "yes", 405, `{"error":"method_not_allowed"}`, false},
		{"below it", "POST", hook + "/x", "delivered", "yes", 404, `{"error":"not_found"}`, false},
		{"above it", "POST", "/twilio", "delivered", "yes", 404, `{"error":"not_found"}`, false},
		{"no key to the rest", "POST", path, "", "yes", 401, `{"error":"unauthorized"}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := r.do(tt.method, tt.path, tt.body, "Signed", tt.signed)
			if a.status != tt.status || a.body != tt.answer {
				t.Errorf("%d %s; want %d %s", a.status, a.body, tt.status, tt.answer)
			}
			if tt.status == 503 && a.header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
			select {
			case got := <-recorded:
				if !tt.recorded || got.Delivery.String() != id {
					t.Errorf("on record: %+v", got)
				}
			default:
				if tt.recorded {
					t.Error("not on record")
				}
			}
		})
	}
	if log := r.log.String(); strings.Contains(log, "t0ken") || strings.Count(log, "callback not signed") != 1 {
		t.Errorf("the log:\n%s", log)
	}
}

// TestCallbacksAreNotLockedOut: however many wrong signatures come from the proxy, the
// provider gets in, and so does who has the key.
func TestCallbacksAreNotLockedOut(t *testing.T) {
	t.Parallel()
	recorded := make(chan dispatch.Report, 1)
	r := hooked(t, recorded, nil)
	for range 3 * maxFailures {
		if a := r.do("POST", hook, "delivered"); a.status != 403 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	if a := r.do("POST", hook+"?"+uuid.NewString(), "delivered", "Signed", "yes"); a.status != 204 {
		t.Errorf("the provider: %d %s", a.status, a.body)
	}
	if a := r.do("POST", path, ""); a.status != 401 {
		t.Errorf("wrong signatures count as wrong keys: %d %s", a.status, a.body)
	}
	if n := strings.Count(r.log.String(), "callback not signed"); n != 2 {
		t.Errorf("%d lines", n)
	}
}

// TestCallbacksAlone: without a key there is nothing but the one route.
func TestCallbacksAlone(t *testing.T) {
	t.Parallel()
	recorded := make(chan dispatch.Report, 1)
	r := hooked(t, recorded, func(c *Config) {
		*c = Config{Callbacks: c.Callbacks, Log: c.Log, Grace: time.Second}
	})
	if a := r.do("POST", hook+"?"+uuid.NewString(), "delivered", "Signed", "yes"); a.status != 204 {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, p := range []string{path, "/api/healthz", "/api/readyz", "/api/admin/outbox/replay", "/"} {
		for _, method := range []string{"GET", "POST"} {
			if a := r.do(method, p, "", "X-Api-Key", ""); a.status != 404 {
				t.Errorf("%s %s: %d %s", method, p, a.status, a.body)
			}
		}
	}
}

func TestCallbackConfig(t *testing.T) {
	t.Parallel()
	read := func(string, http.Header, []byte) (dispatch.Report, error) { return dispatch.Report{}, nil }
	record := func(context.Context, dispatch.Report) (bool, error) { return true, nil }
	for _, tt := range []struct {
		name string
		cfg  Config
		good bool
	}{
		{"nothing", Config{}, false},
		{"callbacks alone", Config{Callbacks: &Callbacks{hook, read, record}}, true},
		{"a path of ours", Config{Callbacks: &Callbacks{"/api/readyz", read, record}}, false},
		{"below ours", Config{Callbacks: &Callbacks{"/api/admin/twilio", read, record}}, false},
		{"every path", Config{Callbacks: &Callbacks{"/", read, record}}, false},
		{"nobody reads", Config{Callbacks: &Callbacks{hook, nil, record}}, false},
		{"nobody records", Config{Callbacks: &Callbacks{hook, read, nil}}, false},
		{"a key that is none", Config{Key: "changeme", Callbacks: &Callbacks{hook, read, record}, Ping: func(context.Context) error { return nil },
			Health: func() listener.Health { return listener.Health{} }, Drain: func(context.Context, int) (listener.Stats, error) { return listener.Stats{}, nil }}, false},
		{"a key, and nothing to do with it", Config{Key: key, Callbacks: &Callbacks{hook, read, record}}, false},
	} {
		if _, err := New(tt.cfg); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, fmt.Sprint(err))
		}
	}
}
