package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// seen is a Look that has one delivery, one line of it, and one pause.
type seen struct{ asked chan string }

func (s seen) List(_ context.Context, f operate.Filter) ([]operate.Delivery, error) {
	s.asked <- fmt.Sprintf("states %v limit %d", f.States, f.Limit)
	switch {
	case f.Error == "nothing":
		return nil, fmt.Errorf("%w: say which", operate.ErrRequest)
	case f.Error == "broken":
		return nil, errors.New("host=db.internal")
	case f.Error == "none":
		return nil, nil
	}
	return []operate.Delivery{{Type: "a", State: "held"}}, nil
}

func (s seen) Lines(_ context.Context, limit int) ([]operate.Line, error) {
	s.asked <- fmt.Sprintf("lines limit %d", limit)
	return []operate.Line{{Key: "k", Waiting: 2}}, nil
}

func (s seen) Pauses(context.Context) ([]operate.Paused, error) {
	s.asked <- "pauses"
	return []operate.Paused{{Kind: "channel", Pattern: "sms"}}, nil
}

func (seen) Brakes(context.Context) ([]operate.Brake, error) { return nil, nil }

// TestLook: what a filter names, what waits in order, and what is paused is answered to whoever has the key.
func TestLook(t *testing.T) {
	t.Parallel()
	s := seen{make(chan string, 1)}
	r := serve(t, func(c *Config) { c.Look = s })
	const row = `{"id":"00000000-0000-0000-0000-000000000000","event_id":"00000000-0000-0000-0000-000000000000",`
	for _, tt := range []struct {
		name, path, body, key string
		status                int
		want                  string // the beginning of the answer
		asked                 string
	}{
		{"held ones", "deliveries", `{"states": ["held"], "limit": 5}`, key, 200, `{"ok":true,"deliveries":[` + row + `"event_type":"a"`, "states [held] limit 5"},
		{"more than one answer has", "deliveries", `{"limit": 9999}`, key, 200, `{"ok":true,"deliveries":[`, "states [] limit 1000"},
		{"none", "deliveries", `{"error": "none"}`, key, 200, `{"ok":true,"deliveries":[]}`, "states [] limit 0"},
		{"it says what is wrong", "deliveries", `{"error": "nothing"}`, key, 400, `{"error":"invalid_request","reason":"cannot be done: say which"}`, "states [] limit 0"},
		{"but nothing of what is inside", "deliveries", `{"error": "broken"}`, key, 500, `{"error":"outbox_failed"}`, "states [] limit 0"},
		{"an unknown key", "deliveries", `{"dry_run": true}`, key, 400, `{"error":"invalid_request","reason":"there is no key \"dry_run\"; there are ids, types, channels, states, error, since, until, limit`, ""},
		{"lines", "lines", `{"limit": 7}`, key, 200, `{"ok":true,"lines":[{"ordering_key":"k","first":` + row, "lines limit 7"},
		{"pauses", "pauses", `{}`, key, 200, `{"ok":true,"paused":[{"kind":"channel","pattern":"sms"}],"braked":[]}`, "pauses"},
		{"pauses have no filter", "pauses", `{"types": ["a"]}`, key, 400, `{"error":"invalid_request","reason":"there is no key \"types\"`, ""},
		{"no key", "lines", `{}`, "", 401, `{"error":"unauthorized"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := *r
			r.t = t
			got := r.do("POST", "/api/admin/outbox/"+tt.path, tt.body, "x-api-key", tt.key, "Content-Type", "application/json")
			if got.status != tt.status || !strings.HasPrefix(got.body, tt.want) {
				t.Errorf("%d %s\nwant %d %s", got.status, got.body, tt.status, tt.want)
			}
			asked := ""
			select {
			case asked = <-s.asked:
			default:
			}
			if asked != tt.asked {
				t.Errorf("asked for %q, want %q", asked, tt.asked)
			}
		})
	}
}

// slow is a Look that has its answer when the time to answer a request in is long over.
type slow struct{}

func (slow) List(ctx context.Context, _ operate.Filter) ([]operate.Delivery, error) {
	return nil, outlast(ctx)
}

func (slow) Lines(ctx context.Context, _ int) ([]operate.Line, error) { return nil, outlast(ctx) }

func (slow) Pauses(ctx context.Context) ([]operate.Paused, error) { return nil, outlast(ctx) }

func (slow) Brakes(ctx context.Context) ([]operate.Brake, error) { return nil, outlast(ctx) }

func outlast(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(500 * time.Millisecond):
		return nil
	}
}

// TestLookTakesLong: longer than an ordinary request may take until it is answered, as a walk
// through a large ledger does.
func TestLookTakesLong(t *testing.T) {
	t.Parallel()
	r := serve(t, func(c *Config) { c.Look = slow{} }, func(s *Server) { s.writeTimeout = 50 * time.Millisecond })
	for _, what := range []string{"deliveries", "lines", "pauses"} {
		if got := r.do("POST", "/api/admin/outbox/"+what, `{}`, "x-api-key", key, "Content-Type", "application/json"); got.status != 200 {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
}

func TestOperate(t *testing.T) {
	t.Parallel()
	asked := make(chan operate.Request, 1)
	paused := make(chan operate.PauseRequest, 1)
	r := serve(t, func(c *Config) {
		c.Operate = func(_ context.Context, req operate.Request) (operate.Result, error) {
			asked <- req
			switch req.By.Reason {
			case "nothing":
				return operate.Result{}, fmt.Errorf("%w: say which", operate.ErrRequest)
			case "broken":
				return operate.Result{Done: 17}, errors.New("host=db.internal")
			}
			return operate.Result{Matched: 2, Done: 1, Refused: []operate.Refusal{{Reason: "delivered", Count: 1}}, IDs: []uuid.UUID{{1}}}, nil
		}
		c.Pause = func(_ context.Context, req operate.PauseRequest) (operate.PauseResult, error) {
			paused <- req
			return operate.PauseResult{Done: []operate.Paused{{Kind: "channel", Pattern: "sms"}}, Unchanged: []operate.Paused{}, Deliveries: 3}, nil
		}
	})
	const base = "/api/admin/outbox/"
	const id = "01000000-0000-0000-0000-000000000000"
	done := func(action string, dry bool) string {
		return fmt.Sprintf(`{"ok":true,"action":"%s","dry_run":%t,"matched":2,"done":1,"refused":[{"reason":"delivered","count":1}],"ids":["%s"]}`, action, dry, id)
	}
	mine := []string{"x-api-key", key, "Content-Type", "application/json"}
	for _, tt := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     string
		asked                    string // of the request that it came to; "" for none
	}{
		{"replay", "POST", "replay", `{"types": ["quote.*"], "channels": ["sms"], "rate": 2.5, "reason": "mended"}`, mine, 200, done("replay", false),
			"replay types [quote.*] channels [sms] limit 10000 rate 2.5 dry false even false reason mended"},
		{"all at once", "POST", "replay", `{"ids": ["` + id + `"], "rate": 0, "even_delivered": true}`, mine, 200, done("replay", false),
			"replay types [] channels [] limit 10000 rate -1 dry false even true reason "},
		{"what may have arrived", "POST", "release", `{"channels": ["sms"], "even_uncertain": true}`, mine, 200, done("release", false),
			"release types [] channels [sms] limit 10000 rate 0 dry false even false uncertain reason "},
		{"a dry run", "POST", "cancel", `{"states": ["held"], "since": "2026-12-01T09:00:00Z", "dry_run": true, "limit": 5}`, mine, 200, done("cancel", true),
			"cancel types [] channels [] limit 5 rate 0 dry true even false reason "},
		{"hold", "POST", "hold", `{"error": "mailbox"}`, mine, 200, done("hold", false), "hold types [] channels [] limit 10000 rate 0 dry false even false reason "},
		{"too high a limit", "POST", "release", `{"error": "x", "limit": 99999999}`, mine, 200, done("release", false),
			"release types [] channels [] limit 10000 rate 0 dry false even false reason "},
		{"pause", "POST", "pause", `{"channels": ["sms"], "reason": "prices"}`, mine, 200,
			`{"ok":true,"action":"pause","dry_run":false,"done":[{"kind":"channel","pattern":"sms"}],"unchanged":[],"deliveries":3}`, "pause types [] channels [sms] dry false reason prices"},
		{"resume", "POST", "resume", `{"types": ["a"], "dry_run": true}`, mine, 200,
			`{"ok":true,"action":"resume","dry_run":true,"done":[{"kind":"channel","pattern":"sms"}],"unchanged":[],"deliveries":3}`, "resume types [a] channels [] dry true reason "},

		{"it says what is wrong", "POST", "hold", `{"reason": "nothing"}`, mine, 400, `{"error":"invalid_request","reason":"cannot be done: say which"}`,
			"hold types [] channels [] limit 10000 rate 0 dry false even false reason nothing"},
		{"but nothing of what is inside", "POST", "hold", `{"reason": "broken"}`, mine, 500, `{"error":"outbox_failed"}`,
			"hold types [] channels [] limit 10000 rate 0 dry false even false reason broken"},
		{"a negative rate", "POST", "replay", `{"rate": -1}`, mine, 400, `{"error":"invalid_request","reason":"a rate has to be 0 or more"}`, ""},
		{"an unknown key", "POST", "cancel", `{"type": "quote.*"}`, mine, 400, `{"error":"invalid_request","reason":"there is no key \"type\"; there are ids, types, channels, states, error, since, until, limit, dry_run, even_delivered, even_uncertain, rate, reason"}`, ""},
		{"a key of another kind", "POST", "cancel", `{"types": "quote.*"}`, mine, 400, `{"error":"invalid_request","reason":"the key \"types\" cannot be a string"}`, ""},
		{"a number that is no whole one", "POST", "cancel", `{"limit": 1.5}`, mine, 400, `{"error":"invalid_request","reason":"the key \"limit\" cannot be a number 1.5"}`, ""},
		{"no object", "POST", "cancel", `["a"]`, mine, 400, `{"error":"invalid_request","reason":"the body has to be a JSON object, not an array"}`, ""},
		{"no JSON", "POST", "cancel", `{types: ["a"]}`, mine, 400, `{"error":"invalid_request","reason":"the body is not JSON: at byte 2: invalid character 't' looking for beginning of object key string"}`, ""},
		{"half of it", "POST", "cancel", `{"types": ["a"]`, mine, 400, `{"error":"invalid_request","reason":"the body is not JSON: it ends before the object does"}`, ""},
		{"nothing", "POST", "cancel", ``, mine, 400, `{"error":"invalid_request","reason":"the body is not JSON: it ends before the object does"}`, ""},
		{"more than an object", "POST", "cancel", `{"types": ["a"]} {}`, mine, 400, `{"error":"invalid_request","reason":"there is something after the JSON object"}`, ""},
		{"too large a body", "POST", "cancel", `{"error": "` + strings.Repeat("x", 64<<10) + `"}`, mine, 413, `{"error":"body_too_large"}`, ""},
		{"not JSON", "POST", "cancel", `types=a`, []string{"x-api-key", key, "Content-Type", "application/x-www-form-urlencoded"}, 415, `{"error":"not_json","reason":"send a JSON object, with the header content-type: application/json"}`, ""},
		{"nothing said of it", "POST", "cancel", `{}`, []string{"x-api-key", key}, 415, `{"error":"not_json","reason":"send a JSON object, with the header content-type: application/json"}`, ""},
		{"no key", "POST", "pause", `{"types": ["a"]}`, []string{"Content-Type", "application/json"}, 401, `{"error":"unauthorized"}`, ""},
		{"GET", "GET", "replay", ``, mine, 405, `{"error":"method_not_allowed"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := *r
			r.t = t
			got := r.do(tt.method, base+tt.path, tt.body, tt.header...)
			if got.status != tt.status || got.body != tt.want {
				t.Errorf("%d %s\nwant %d %s", got.status, got.body, tt.status, tt.want)
			}
			came := ""
			select {
			case a := <-asked:
				came = fmt.Sprintf("%s types %v channels %v limit %d rate %g dry %t even %t reason %s", a.Action, a.Filter.Types, a.Filter.Channels, a.Filter.Limit,
					a.Rate, a.DryRun, a.EvenDelivered, a.By.Reason)
				if a.EvenUncertain {
					came = strings.Replace(came, " reason", " uncertain reason", 1)
				}
				if len(a.By.Who) != len("key ")+6 || a.By.Via != "api" || !strings.HasPrefix(a.By.Origin, "127.0.0.1:") {
					t.Errorf("by %+v", a.By)
				}
			case a := <-paused:
				came = fmt.Sprintf("%s types %v channels %v dry %t reason %s", a.Action, a.Types, a.Channels, a.DryRun, a.By.Reason)
			default:
			}
			if came != tt.asked {
				t.Errorf("asked for %q, want %q", came, tt.asked)
			}
		})
	}
	if !strings.Contains(r.log.String(), "done=17") {
		t.Error("the log does not say how much was done before it failed")
	}
	if strings.Contains(r.log.String(), key) {
		t.Error("the key is in the log")
	}
}
