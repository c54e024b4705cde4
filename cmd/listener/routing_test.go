package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// put writes a file into dir.
func put(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hookRoutes is a routes file that turns paid orders into requests to api, with a
// row of the database and what expose_env and a credential name.
func hookRoutes(api *standin.API, version int) string {
	return fmt.Sprintf(`version: 1
expose_env: [SHOP]
credentials:
  api: {query: {api_secret: API_SECRET}}
routes:
  - name: paid
    event: order.paid
    lookup:
      order:
        sql: select :n::int * 2 as doubled
    deliver:
      - name: hook
        http:
          url: %s/mp/collect
          credential: api
          body: 'version %d, {{.order.doubled}}, {{env "SHOP"}}'
`, api.URL(), version)
}

// arrived waits until api has n requests and returns the last.
func arrived(t testing.TB, api *standin.API, n int) standin.Received {
	t.Helper()
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		got := len(api.Received())
		return got >= n, fmt.Sprintf("%d of %d requests", got, n)
	})
	return api.Received()[n-1]
}

// lines counts the log lines of p with this message.
func (p *proc) lines(msg string) int { return strings.Count(p.stdout.String(), `"msg":"`+msg+`"`) }

// TestReload: SIGHUP puts the file in force as it is, and what it names as that is
// in the environment file; a file with errors changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	posixSignals(t)
	db := pgtest.New(t)
	api, err := standin.NewAPI(standin.APIConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	dir := t.TempDir()
	put(t, dir, "routes.yaml", hookRoutes(api, 1))
	put(t, dir, ".env", "API_SECRET=canary-one\nSHOP=first\n")
	env := daemonEnv(db)
	env["OUTBOX_WEBHOOK_ALLOW_CIDRS"] = "127.0.0.0/8"
	p := startListenerIn(t, dir, env)
	p.ready()
	if got := p.line("starting", 0)["routes"]; got != "routes.yaml: 1 route, 1 step" {
		t.Errorf("routes: %v", got)
	}
	expect := func(n int, secret, body string) {
		t.Helper()
		insert(t, db, 1, "order.paid", fmt.Sprintf(`{"n": %d}`, n))
		got := arrived(t, api, n)
		if got.Recipient != "POST /mp/collect?api_secret="+secret || got.Body != body {
			t.Errorf("event %d: %s with %q", n, got.Recipient, got.Body)
		}
		processed(t, db)
	}
	expect(1, "canary-one", "version 1, 2, first")

	put(t, dir, "routes.yaml", hookRoutes(api, 2))
	put(t, dir, ".env", "API_SECRET_FILE=secret\nSHOP=second\n")
	put(t, dir, "secret", "canary-two\n")
	p.signal(syscall.SIGHUP)
	if got := p.line("routes reloaded", 10*time.Second); got["routes"] != "1 route, 1 step" || got["file"] != "routes.yaml" {
		t.Errorf("%v", got)
	}
	expect(2, "canary-two", "version 2, 4, second")

	refused := func(n int, file, want string) {
		t.Helper()
		put(t, dir, "routes.yaml", file)
		p.signal(syscall.SIGHUP)
		pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
			return p.lines("routes not reloaded; those from before stay in force") == n, "not refused"
		})
		if !strings.Contains(p.stdout.String(), want) {
			t.Errorf("no line says %s", want)
		}
	}
	broken := strings.Replace(hookRoutes(api, 3), "http:", "htttp:", 1)
	refused(1, broken, `"problem":"routes.yaml:13:9: `)
	expect(3, "canary-two", "version 2, 6, second")
	refused(2, strings.Replace(hookRoutes(api, 3), "API_SECRET", "API_SECRETS", 1), "the variable API_SECRETS is not set")
	expect(4, "canary-two", "version 2, 8, second")
	if err := os.Rename(filepath.Join(dir, ".env"), filepath.Join(dir, "env.old")); err != nil {
		t.Fatal(err)
	}
	refused(3, hookRoutes(api, 3), "environment file .env: it was there at the start, and is not any more")
	expect(5, "canary-two", "version 2, 10, second")
	if err := os.Rename(filepath.Join(dir, "env.old"), filepath.Join(dir, ".env")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "routes.yaml")); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		return p.lines("routes not reloaded; those from before stay in force") == 4, "not refused"
	})
	expect(6, "canary-two", "version 2, 12, second")

	p.signal(syscall.SIGTERM)
	if code := p.exit(20 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if strings.Contains(p.stdout.String(), "canary") || p.stderr.String() != "" {
		t.Errorf("a secret is shown, or there is something on stderr: %s", &p.stderr)
	}
}

// TestReloadWhileWaitingForTheDatabase: SIGHUP ends no daemon, whenever it comes
// and whether there are routes or not.
func TestReloadWhileWaitingForTheDatabase(t *testing.T) {
	t.Parallel()
	posixSignals(t)
	db := pgtest.New(t)
	api, err := standin.NewAPI(standin.APIConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	r := newRelay(t, db)
	dir := t.TempDir()
	put(t, dir, "routes.yaml", hookRoutes(api, 1))
	env := daemonEnv(db)
	env["DATABASE_URL"], env["OUTBOX_WEBHOOK_ALLOW_CIDRS"] = r.url, "127.0.0.0/8"
	env["API_SECRET"], env["SHOP"] = "secret", "shop"
	with, without := startListenerIn(t, dir, env), startListener(t, env)
	for _, p := range []*proc{with, without} {
		p.line("database not ready; trying again", 10*time.Second)
	}
	put(t, dir, "routes.yaml", hookRoutes(api, 2))
	with.signal(syscall.SIGHUP)
	without.signal(syscall.SIGHUP)
	with.line("routes reloaded", 10*time.Second)
	without.line("no routes to reload", 10*time.Second)
	without.signal(syscall.SIGTERM)
	if code := without.exit(20 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	r.open()
	with.ready()
	insert(t, db, 1, "order.paid", `{"n": 1}`)
	if got := arrived(t, api, 1).Body; got != "version 2, 2, shop" {
		t.Errorf("%s", got)
	}
}

// TestRoutesKeepItFromStarting: every problem, with its place where an editor finds
// it, and exit code 1.
func TestRoutesKeepItFromStarting(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	good := `version: 1
credentials:
  api: {bearer: API_TOKEN}
routes:
  - name: paid
    event: order.paid
    deliver:
      - {name: note, log: {text: paid}}
`
	for _, tt := range []struct {
		name, file string
		env        map[string]string
		args       []string
		want       []string // how each line begins
	}{
		{"broken", "version: 1\nroutes:\n  - name: a\n    evnt: b\n    deliver: []\n  - nam: c\n", nil, nil,
			[]string{"FILE:3:5: ", `FILE:4:5: the key "evnt" is not known here`, "FILE:6:5: ", "FILE:6:5: ", "FILE:6:5: ",
				"listener: not started: 5 problems with the routes"}},
		{"broken, with --once", "version: 2\nroutes:\n  - {name: a, event: b, deliver: [{name: c, log: {text: d}}]}\n", nil, []string{"--once"}, []string{"FILE:1:10: ", "listener: not started: 1 problem with the routes"}},
		{"a variable that is not set", good, nil, nil,
			[]string{"FILE:3:17: the variable API_TOKEN is not set; the credential needs it", "listener: not started: 1 problem with the routes"}},
		{"a variable in a file that is not there", good, map[string]string{"API_TOKEN_FILE": "nowhere"}, nil,
			[]string{"FILE:3:17: ", "FILE: API_TOKEN_FILE: open nowhere: ", "listener: not started: 2 problems"}},
		{"a variable that cannot be sent", good, map[string]string{"API_TOKEN": "canary canary"}, nil,
			[]string{`FILE:3:3: credential "api": bearer has a space`, "listener: not started: 1 problem"}},
		{"a file that is not there", "", map[string]string{"OUTBOX_ROUTES": "nowhere.yaml"}, nil,
			[]string{`listener: OUTBOX_ROUTES="nowhere.yaml" (environment) cannot be read: no such file or directory; accepted: the path of a file`}},
		{"the file and the configuration", "version: 2\nroutes:\n  - {name: a, event: b, deliver: [{name: c, log: {text: d}}]}\n", map[string]string{"OUTBOX_WORKERS": "many"}, nil,
			[]string{"listener: OUTBOX_WORKERS", "FILE:1:10: ", "listener: not started: 1 problem with the routes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "my.yaml")
			put(t, filepath.Dir(file), "my.yaml", tt.file)
			env := map[string]string{"DATABASE_URL": db.URL, "OUTBOX_ROUTES": file, "OUTBOX_POLL_INTERVAL_MS": "1000"}
			for k, v := range tt.env {
				env[k] = v
			}
			got := call(t, env, tt.args...)
			lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
			good := got.code == exitCannot && got.stdout == "" && len(lines) == len(tt.want)
			for i := 0; good && i < len(lines); i++ {
				good = strings.HasPrefix(lines[i], strings.Replace(tt.want[i], "FILE", file, 1))
			}
			if !good || strings.Contains(got.stderr, "canary") {
				t.Errorf("exit code %d, stdout %q, stderr:\n%s", got.code, got.stdout, got.stderr)
			}
		})
	}
}

// TestUnconfiguredChannelsOfRoutes: each is warned about once, and its deliveries
// are skipped with the reason on record.
func TestUnconfiguredChannelsOfRoutes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	file := filepath.Join(t.TempDir(), "routes.yaml")
	put(t, filepath.Dir(file), "routes.yaml", `version: 1
routes:
  - name: paid
    event: order.paid
    deliver:
      - {name: text, sms: {to: "+15550100123", body: paid}}
      - {name: again, sms: {to: "+15550100124", body: paid}}
      - {name: words, openai: {instructions: Say something.}}
      - {name: note, log: {text: paid}}
`)
	insert(t, db, 1, "order.paid", `{}`)
	got := call(t, map[string]string{"DATABASE_URL": db.URL, "OUTBOX_ROUTES": file, "SMTP_HOST": "h", "SMTP_FROM": "a@example.com"}, "--once")
	for channel, want := range map[string]int{"sms": 1, "openai": 1, "email": 0, "log": 0} {
		line := `"channel not configured; its deliveries are skipped","channel":"` + channel + `"`
		if n := strings.Count(got.stderr, line); n != want {
			t.Errorf("%d warnings about %s, want %d: %s", n, channel, want, got.stderr)
		}
	}
	states := pgtest.QueryVals[string](t, db, `select step || ' ' || state || ' ' || coalesce(last_error, '') from outbox.deliveries order by 1`)
	if got := strings.Join(states, "; "); got != "again skipped sms not configured; note delivered ; text skipped sms not configured; words skipped openai not configured" {
		t.Errorf("%s", got)
	}
}
