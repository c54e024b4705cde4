package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// notTwiceRoutes ask for one webhook each, by each on_uncertain.
const notTwiceRoutes = `version: 1
routes:
  - name: one
    event: one
    deliver:
      - name: never
        on_uncertain: never_twice
        webhook: {url: "URL/never", json: {n: 1}}
      - name: hold
        on_uncertain: hold
        webhook: {url: "URL/hold", json: {n: 1}}
      - name: again
        webhook: {url: "URL/again", json: {n: 1}}
`

// TestNotTwice: a receiver that answers 500, or 503 and not when to come again, may have
// done the work. Where a second is not wanted, nobody sends one.
func TestNotTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	calls := make(chan string, 100)
	w.webhook.Script(func(n int, r *http.Request) standin.HTTPReply {
		calls <- r.URL.Path // there is room
		switch {
		case strings.HasSuffix(r.URL.Path, "/again"):
			return standin.HTTPReply{}
		case strings.HasSuffix(r.URL.Path, "/hold"): // a gateway that waited in vain
			return standin.HTTPReply{Status: http.StatusServiceUnavailable, Taken: true}
		}
		return standin.HTTPReply{Status: http.StatusInternalServerError, Taken: true}
	})
	routes := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(routes, []byte(strings.ReplaceAll(notTwiceRoutes, "URL", w.webhook.URL())), 0o600); err != nil {
		t.Fatal(err)
	}
	w.env["OUTBOX_ROUTES"], w.env["OUTBOX_LOG_LEVEL"] = routes, "info"
	startListener(t, w.env).ready()
	pgtest.Exec(t, w.db, `insert into outbox_events (type, payload) values ('one', '{}')`)
	const states = `select coalesce(string_agg(step || ' ' || state || ' ' || attempts || coalesce(' ' || split_part(last_error, ':', 1), ''), ', ' order by step), '') from outbox.deliveries`
	const want = "again delivered 1, hold held 1 may have arrived, never dead 1 unknown_outcome"
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		got := pgtest.QueryVal[string](t, w.db, states)
		return got == want, got
	})
	if n := len(calls); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

// TestNotTwiceByVariable: direct events have no route that could say so; the operator does.
func TestNotTwiceByVariable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	calls := make(chan string, 100) // there is room
	w.webhook.Script(func(int, *http.Request) standin.HTTPReply {
		calls <- "webhook"
		return standin.HTTPReply{Status: http.StatusBadGateway, Taken: true}
	})
	w.twilio.Script(func(int, *http.Request) standin.TwilioReply {
		calls <- "sms"
		return standin.TwilioReply{CutAfter: true}
	})
	w.smtp.Script(func(standin.Received) standin.SMTPReply {
		calls <- "email"
		return standin.SMTPReply{CutAfter: true}
	})
	w.env["OUTBOX_LOG_LEVEL"] = "info"
	w.env["OUTBOX_ON_UNCERTAIN_SMS"], w.env["OUTBOX_ON_UNCERTAIN_EMAIL"], w.env["OUTBOX_ON_UNCERTAIN_WEBHOOK"] = "never_twice", "hold", "never_twice"
	startListener(t, w.env).ready()
	pgtest.Exec(t, w.db, `insert into outbox_events (type, payload) values
		('sms.send', '{"to": "+15550100123", "body": "x"}'),
		('email.send', '{"to": "ann@example.com", "subject": "x", "text": "x"}'),
		('webhook.send', jsonb_build_object('url', '`+w.webhook.URL()+`', 'body', 'x'))`)
	const states = `select coalesce(string_agg(channel || ' ' || state || ' ' || attempts || coalesce(' ' || split_part(last_error, ':', 1), ''), ', ' order by channel), '') from outbox.deliveries`
	const want = "email held 1 may have arrived, sms dead 1 unknown_outcome, webhook dead 1 unknown_outcome"
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		got := pgtest.QueryVal[string](t, w.db, states)
		return got == want, got
	})
	if n := len(calls); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}
