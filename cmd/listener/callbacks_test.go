package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

const withFallback = `version: 1
routes:
  - name: visit
    event: visit.booked
    deliver:
      - name: text
        sms: {to: '{{.payload.phone}}', body: 'Booked.'}
        if_undelivered: mail
      - name: mail
        email: {to: [ann@example.com], subject: 'Booked {{.payload.phone}}', text: 'Booked.'}
`

// front is a proxy on the way to a daemon, as one with TLS is in production. Requests
// wait while there is no daemon.
type front struct {
	*httptest.Server

	mu    sync.Mutex
	to    *url.URL
	there chan struct{} // closed while to is set
}

func newFront(t *testing.T) *front {
	f := &front{there: make(chan struct{})}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		there := f.there
		f.mu.Unlock()
		select {
		case <-there:
		case <-r.Context().Done():
			return
		}
		f.mu.Lock()
		to := f.to
		f.mu.Unlock()
		httputil.NewSingleHostReverseProxy(to).ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// pass has requests go to the daemon at address; "" has them wait.
func (f *front) pass(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.to = nil; address == "" {
		f.there = make(chan struct{})
		return
	}
	f.to = &url.URL{Scheme: "http", Host: address}
	close(f.there)
}

// TestTwilioReports: a daemon without a key, behind a proxy, hears what became of its
// SMS, and sends what the routes have instead; also where the daemon that sent the SMS
// was killed before the report came.
func TestTwilioReports(t *testing.T) {
	t.Parallel()
	posixSignals(t)
	w, proxy := newWorld(t), newFront(t)
	w.twilio.ScriptCallbacks(devFates)
	env := maps.Clone(w.env)
	env["OUTBOX_LOG_LEVEL"], env["OUTBOX_ADMIN_ADDR"], env["OUTBOX_LEASE"] = "info", "127.0.0.1:0", "2s"
	env["OUTBOX_TWILIO_CALLBACK_URL"] = proxy.URL + "/twilio/status"
	env["OUTBOX_ROUTES"] = filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(env["OUTBOX_ROUTES"], []byte(withFallback), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := func() *proc {
		p := startListener(t, env)
		p.ready()
		return p
	}
	standing := func(phone, want string) {
		t.Helper()
		pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
			got := pgtest.QueryVal[string](t, w.db, `select coalesce(string_agg(step || ' ' || state || coalesce(' ' || receipt, '') || coalesce(' ' || receipt_code, ''), ', ' order by step desc), '')
				from outbox.deliveries where event_id = (select id from outbox_events where payload->>'phone' = $1)`, phone)
			return got == want, got
		})
	}
	const gone, here, later = "+12025550003", "+12025550001", "+12025560003"
	first := daemon()
	proxy.pass(first.line("starting", 0)["admin"].(string))
	insert(t, w.db, 1, "visit.booked", `{"phone": "`+gone+`"}`)
	insert(t, w.db, 1, "visit.booked", `{"phone": "`+here+`"}`)
	standing(gone, "text delivered undelivered 30003, mail delivered")
	standing(here, "text delivered delivered, mail skipped")

	// Nothing else of the admin endpoint is there, and nothing that Twilio did not sign.
	for _, path := range []string{"/api/healthz", "/api/admin/outbox/dispatch", "/"} {
		if status, _ := request(t, "POST", proxy.URL+path, ""); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
	form := url.Values{"MessageStatus": {"undelivered"}, "MessageSid": {w.twilio.Received()[0].ID}}.Encode()
	if status, body := request(t, "POST", env["OUTBOX_TWILIO_CALLBACK_URL"]+"?delivery="+pgtest.QueryVal[string](t, w.db, `select id from outbox.deliveries limit 1`), form); status != http.StatusForbidden || body != `{"error":"forbidden"}` {
		t.Errorf("%d %s", status, body)
	}

	proxy.pass("")
	insert(t, w.db, 1, "visit.booked", `{"phone": "`+later+`"}`)
	standing(later, "text delivered, mail scheduled")
	first.signal(syscall.SIGKILL)
	first.exit(10 * time.Second)
	second := daemon()
	proxy.pass(second.line("starting", 0)["admin"].(string))
	standing(later, "text delivered undelivered 30003, mail delivered")

	processed(t, w.db)
	var mails []string
	for _, m := range w.smtp.Received() {
		for line := range strings.Lines(m.Body) {
			if subject, ok := strings.CutPrefix(line, "Subject: "); ok {
				mails = append(mails, strings.TrimSpace(subject))
			}
		}
	}
	if want := []string{"Booked " + gone, "Booked " + later}; fmt.Sprint(mails) != fmt.Sprint(want) {
		t.Errorf("mails %q, want %q", mails, want)
	}
	for _, r := range w.twilio.Reported() {
		if r.Answer != http.StatusNoContent {
			t.Errorf("a report was answered with %d", r.Answer)
		}
	}
	if listed := call(t, env, "deliveries", "--state", "delivered"); !strings.Contains(listed.stdout, "delivered (undelivered 30003)") {
		t.Errorf("the list: %s%s", listed.stdout, listed.stderr)
	}
}

// TestCheckWarnsOfFallbacks: where nobody would say that an SMS did not arrive.
func TestCheckWarnsOfFallbacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := maps.Clone(w.env)
	env["OUTBOX_ROUTES"] = filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(env["OUTBOX_ROUTES"], []byte(withFallback), 0o600); err != nil {
		t.Fatal(err)
	}
	const warned = "routes.yaml:8:25: warning: the step mail is sent only where Twilio refuses text"
	if got := call(t, env, "check", "--offline"); got.code != exitOK || !strings.Contains(got.stdout, warned) {
		t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
	env["OUTBOX_TWILIO_CALLBACK_URL"] = "https://hooks.example.com/twilio/status"
	if got := call(t, env, "check", "--offline"); got.code != exitOK || strings.Contains(got.stdout, "is sent only where") {
		t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
	env["OUTBOX_TWILIO_CALLBACK_URL"] = "https://hooks.example.com/api/readyz"
	if got := call(t, env, "check", "--offline"); got.code != exitFailures || !strings.Contains(got.stdout, "OUTBOX_TWILIO_CALLBACK_URL=") {
		t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
}

// TestDaemonWarnsOfFallbacks: so does the daemon when it starts, which not everybody checks
// before, and what runs once does not, since it hears of no report in any case.
func TestDaemonWarnsOfFallbacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := maps.Clone(w.env)
	env["OUTBOX_LOG_LEVEL"], env["OUTBOX_ADMIN_ADDR"] = "info", "127.0.0.1:0"
	env["OUTBOX_ROUTES"] = filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(env["OUTBOX_ROUTES"], []byte(withFallback), 0o600); err != nil {
		t.Fatal(err)
	}
	const warned = `"msg":"a fallback is sent only where Twilio refuses the SMS: whether one arrived is not reported without OUTBOX_TWILIO_CALLBACK_URL","step":"mail","instead_of":"text","line":8`
	for _, tt := range []struct {
		name, callback string
		want           int
	}{
		{"nobody reports", "", 1},
		{"Twilio reports", "https://hooks.example.com/twilio/status", 0},
	} {
		env["OUTBOX_TWILIO_CALLBACK_URL"] = tt.callback
		p := startListener(t, env)
		p.ready()
		if n := strings.Count(p.stdout.String(), warned); n != tt.want {
			t.Errorf("%s: %d warnings, want %d: %s", tt.name, n, tt.want, p.stdout.String())
		}
	}
	env["OUTBOX_TWILIO_CALLBACK_URL"] = ""
	if got := call(t, env, "--once"); got.code != exitOK || strings.Contains(got.stderr, "a fallback is sent only") {
		t.Errorf("once: exit code %d: %s", got.code, got.stderr)
	}
}
