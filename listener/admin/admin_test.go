package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/listener"
)

const key = "correct-horse-battery-staple"

const path = "/api/admin/outbox/dispatch"

func TestDispatch(t *testing.T) {
	t.Parallel()
	r := serve(t, nil)
	const done = `{"ok":true,"total":6,"processed":1,"skipped":2,"errors":3}`
	xKey := []string{"x-api-key", key}
	for _, tt := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     string
		limit                    int // 0: nothing is dispatched
	}{
		{"no body", "POST", path, "", xKey, 200, done, 10},
		{"an empty object", "POST", path, "{}", xKey, 200, done, 10},
		{"a limit", "POST", path, `{"limit": 5}`, xKey, 200, done, 5},
		{"among others", "POST", path, `{"dryRun": true, "limit": 7}`, xKey, 200, done, 7},
		{"too high a limit", "POST", path, `{"limit": 51}`, xKey, 200, done, 50},
		{"far too high", "POST", path, `{"limit": 1e300}`, xKey, 200, done, 50},
		{"a fraction", "POST", path, `{"limit": 2.9}`, xKey, 200, done, 2},
		{"less than one", "POST", path, `{"limit": 0.5}`, xKey, 200, done, 1},
		{"none", "POST", path, `{"limit": 0}`, xKey, 200, done, 10},
		{"negative", "POST", path, `{"limit": -3}`, xKey, 200, done, 10},
		{"a text", "POST", path, `{"limit": "5"}`, xKey, 200, done, 10},
		{"null", "POST", path, `{"limit": null}`, xKey, 200, done, 10},
		{"beyond numbers", "POST", path, `{"limit": 1e999}`, xKey, 200, done, 10},
		{"another name", "POST", path, `{"LIMIT": 5}`, xKey, 200, done, 10},
		{"no object", "POST", path, `[5]`, xKey, 200, done, 10},
		{"null for a body", "POST", path, `null`, xKey, 200, done, 10},
		{"broken JSON counts as none", "POST", path, `{limit:5}`, xKey, 200, done, 10},
		{"trailing data too", "POST", path, `{"limit": 5} {}`, xKey, 200, done, 10},
		{"nested to the bottom", "POST", path, strings.Repeat("[", 60000), xKey, 200, done, 10},
		{"a form, as curl -d sends it", "POST", path, `limit=5`, append([]string{"Content-Type", "application/x-www-form-urlencoded"}, xKey...), 200, done, 10},
		{"the largest body", "POST", path, `{"limit": 5` + strings.Repeat(" ", 64<<10-12) + `}`, xKey, 200, done, 5},
		{"too large a body", "POST", path, `{"limit": 5` + strings.Repeat(" ", 64<<10) + `}`, xKey, 413, `{"error":"body_too_large"}`, 0},

		{"x-api-key with Bearer", "POST", path, "", []string{"x-api-key", "Bearer " + key}, 200, done, 10},
		{"authorization with Bearer", "POST", path, "", []string{"authorization", "Bearer " + key}, 200, done, 10},
		{"in other letters", "POST", path, "", []string{"authorization", "bearer  " + key}, 200, done, 10},
		{"bare authorization", "POST", path, "", []string{"authorization", key}, 200, done, 10},
		{"both right", "POST", path, "", []string{"x-api-key", key, "authorization", "Bearer " + key}, 200, done, 10},
		{"x-api-key goes first", "POST", path, "", []string{"x-api-key", key, "authorization", "Bearer wrong"}, 200, done, 10},
		{"also where it is wrong", "POST", path, "", []string{"x-api-key", "wrong", "authorization", "Bearer " + key}, 401, `{"error":"unauthorized"}`, 0},
		{"also where it is empty", "POST", path, "", []string{"x-api-key", "", "authorization", "Bearer " + key}, 401, `{"error":"unauthorized"}`, 0},
		{"no key", "POST", path, "", nil, 401, `{"error":"unauthorized"}`, 0},
		{"twice", "POST", path, "", []string{"x-api-key", key, "x-api-key", key}, 401, `{"error":"unauthorized"}`, 0},
		{"only a part", "POST", path, "", []string{"x-api-key", key[:len(key)-1]}, 401, `{"error":"unauthorized"}`, 0},
		{"Basic", "POST", path, "", []string{"authorization", "Basic " + key}, 401, `{"error":"unauthorized"}`, 0},
		{"in the URL", "POST", path + "?key=" + key, "", nil, 401, `{"error":"unauthorized"}`, 0},
		{"Bearer alone", "POST", path, "", []string{"authorization", "Bearer "}, 401, `{"error":"unauthorized"}`, 0},

		{"GET", "GET", path, "", xKey, 405, `{"error":"method_not_allowed"}`, 0},
		{"PUT", "PUT", path, "{}", xKey, 405, `{"error":"method_not_allowed"}`, 0},
		{"OPTIONS", "OPTIONS", path, "", xKey, 405, `{"error":"method_not_allowed"}`, 0},
		{"another path", "POST", "/api/admin/outbox", "", xKey, 404, `{"error":"not_found"}`, 0},
		{"the root", "GET", "/", "", nil, 404, `{"error":"not_found"}`, 0},
		{"no profiles", "GET", "/debug/pprof/", "", xKey, 404, `{"error":"not_found"}`, 0},
		{"healthz", "GET", "/api/healthz", "", nil, 200, "ok", 0},
		{"healthz takes no POST", "POST", "/api/healthz", "", nil, 405, `{"error":"method_not_allowed"}`, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := *r
			r.t = t
			got := r.do(tt.method, tt.path, tt.body, tt.header...)
			if got.status != tt.status || got.body != tt.want {
				t.Errorf("%d %s; want %d %s", got.status, got.body, tt.status, tt.want)
			}
			limit := 0
			select {
			case limit = <-r.limits:
			default:
			}
			if limit != tt.limit {
				t.Errorf("limit %d, want %d", limit, tt.limit)
			}
			if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Cache-Control") != "no-store" || got.header.Get("Server") != "" {
				t.Errorf("headers: %v", got.header)
			}
			if got.status == 405 && got.header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
		})
	}
	if strings.Contains(r.log.String(), key) {
		t.Error("the key is in the log")
	}
}

// TestInternalsStayInside: what goes wrong is told to the log, not to the
// caller.
func TestInternalsStayInside(t *testing.T) {
	t.Parallel()
	for name, drain := range map[string]func(context.Context, int) (listener.Stats, error){
		"error": func(context.Context, int) (listener.Stats, error) {
			return listener.Stats{Total: 1}, errors.New("claim: host=db.internal")
		},
		"panic": func(context.Context, int) (listener.Stats, error) { panic("db.internal") },
	} {
		r := serve(t, func(c *Config) { c.Drain = drain })
		got := r.do("POST", path, "", "x-api-key", key)
		if got.status != 500 || got.body != `{"error":"outbox_failed"}` {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		if !strings.Contains(r.log.String(), "db.internal") {
			t.Errorf("%s: not in the log: %s", name, r.log)
		}
	}
}

// TestDispatchTakesLong: longer than the server waits for a request.
func TestDispatchTakesLong(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", `{"limit": 1}`} {
		r := serve(t, func(c *Config) {
			c.Drain = func(ctx context.Context, _ int) (listener.Stats, error) {
				select {
				case <-ctx.Done():
					return listener.Stats{}, ctx.Err()
				case <-time.After(500 * time.Millisecond): // the request's deadline is long over then
					return listener.Stats{}, nil
				}
			}
		}, func(s *Server) { s.readTimeout = 50 * time.Millisecond })
		if got := r.do("POST", path, body, "x-api-key", key); got.status != 200 {
			t.Errorf("%q: %d %s", body, got.status, got.body)
		}
	}
}

func TestReadyz(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		listening bool
		ago       time.Duration // of the last sweep; negative: none yet
		ping      error
		status    int
		want      ready
	}{
		{"all is well", true, 0, nil, 200, ready{Ready: true, Database: true, Wake: "listen"}},
		{"only the sweep", false, 0, nil, 200, ready{Ready: true, Database: true, Wake: "sweep"}},
		{"a late sweep", true, 12 * time.Second, nil, 200, ready{Ready: true, Database: true, Wake: "listen"}},
		{"no sweep any more", true, 14 * time.Second, nil, 503, ready{Database: true, Wake: "listen"}},
		{"no sweep yet", true, -1, nil, 503, ready{Database: true, Wake: "listen"}},
		{"no database", true, 0, errors.New("db.internal: refused"), 503, ready{Wake: "listen"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := serve(t, func(c *Config) {
				c.Ping = func(context.Context) error { return tt.ping }
				c.Health = func() listener.Health {
					h := listener.Health{Listening: tt.listening}
					if tt.ago >= 0 {
						h.LastSweep = time.Now().Add(-tt.ago)
					}
					return h
				}
			})
			got := r.do("GET", "/api/readyz", "")
			var a ready
			if err := json.Unmarshal([]byte(got.body), &a); err != nil {
				t.Fatalf("%s: %v", got.body, err)
			}
			if (a.LastSweep == nil) != (tt.ago < 0) || a.LastSweep != nil && (*a.LastSweep < tt.ago.Seconds() || *a.LastSweep > tt.ago.Seconds()+1) {
				t.Errorf("last sweep: %s", got.body)
			}
			a.LastSweep = nil
			if got.status != tt.status || a != tt.want || strings.Contains(got.body, "internal") {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
}

// TestReadyzIsNoLoad: the database is asked once a second, whoever asks us.
func TestReadyzIsNoLoad(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	r := serve(t, func(c *Config) {
		c.Ping = func(context.Context) error { asked.Add(1); return nil }
	})
	begun := time.Now()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got, err := r.try("GET", "/api/readyz", ""); err != nil || got.status != 200 {
				t.Errorf("%d %s %v", got.status, got.body, err)
			}
		})
	}
	wg.Wait()
	if n, most := int(asked.Load()), 1+int(time.Since(begun)/time.Second); n > most {
		t.Errorf("asked %d times", n)
	}
}

func TestFailures(t *testing.T) {
	now := time.Unix(0, 0)
	f := newFailures()
	f.now = func() time.Time { return now }
	for i, tt := range []struct {
		remote string
		after  time.Duration
		n      int
		wait   time.Duration
	}{
		{"192.0.2.1:1000", 0, 1, time.Minute},
		{"192.0.2.1:2000", 10 * time.Second, 2, 50 * time.Second},
		{"[::ffff:192.0.2.1]:1000", 0, 3, 50 * time.Second},
		{"192.0.2.2:1000", 0, 1, time.Minute},
		{"[2001:db8::1]:1000", 0, 1, time.Minute},
		{"[2001:db8::2]:1000", 0, 2, time.Minute},            // of the same /64
		{"[2001:db8:0:1::1]:1", 0, 1, time.Minute},           // of another
		{"[fe80::1%eth0]:1000", 0, 1, time.Minute},           //
		{"192.0.2.1:1000", 50 * time.Second, 1, time.Minute}, // a new window
		{"@", 0, 1, time.Minute},
	} {
		now = now.Add(tt.after)
		if n, wait := f.add(tt.remote); n != tt.n || wait != tt.wait {
			t.Errorf("%d: %s: %d, %s; want %d, %s", i, tt.remote, n, wait, tt.n, tt.wait)
		}
	}
	for i := range 2 * maxRemembered {
		f.add(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
	}
	if len(f.byAddr) != maxRemembered || f.order.Len() != maxRemembered {
		t.Errorf("%d, %d addresses remembered", len(f.byAddr), f.order.Len())
	}
}
