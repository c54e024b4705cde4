package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

const testKey = "a-key-that-is-long-enough-for-tests"

// webhookSecret is base64 of 24 bytes.
const webhookSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"

// insert commits n events of a type.
func insert(t testing.TB, db *pgtest.DB, n int, typ, payload string) {
	t.Helper()
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select $1, $2::jsonb from generate_series(1, $3)`, typ, payload, n)
}

// open counts the events that are not processed.
func open(t testing.TB, db *pgtest.DB) int {
	t.Helper()
	return pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where processed_at is null`)
}

// processed waits until all events are.
func processed(t testing.TB, db *pgtest.DB) {
	t.Helper()
	pgtest.Drains(t, 20*time.Second, "events are not processed", func() int { return open(t, db) })
}

// counts is what the one-shot modes print.
func counts(total, processed, skipped, errors int) string {
	return fmt.Sprintf("{\n  \"ok\": true,\n  \"total\": %d,\n  \"processed\": %d,\n  \"skipped\": %d,\n  \"errors\": %d\n}\n", total, processed, skipped, errors)
}

func TestOneShot(t *testing.T) {
	t.Parallel()
	const good, none, bad = "discard.send", "lead.created", "email.send"
	for _, tt := range []struct {
		name   string
		env    map[string]string
		args   []string
		insert map[string]int // events by type
		stdout string
		code   int
		left   int
	}{
		{"one batch of nothing", nil, nil, nil, counts(0, 0, 0, 0), 0, 0},
		{"one batch is ten", nil, nil, map[string]int{good: 12}, counts(10, 10, 0, 0), 0, 2},
		{"or as many as one says", map[string]string{"OUTBOX_BATCH_SIZE": "3", "OUTBOX_POLL_INTERVAL_MS": "0"}, nil, map[string]int{good: 12}, counts(3, 3, 0, 0), 0, 9},
		{"one batch exits 0 with errors", nil, nil, map[string]int{good: 1, none: 2, bad: 3}, counts(6, 1, 2, 3), 0, 0},
		{"--once goes on", nil, []string{"--once"}, map[string]int{good: 35}, counts(35, 35, 0, 0), 0, 0},
		{"--once says that there were errors", nil, []string{"--once"}, map[string]int{good: 1, none: 2, bad: 1}, counts(4, 1, 2, 1), 3, 0},
		{"--once with a limit", nil, []string{"--once", "--limit", "15"}, map[string]int{good: 35}, counts(15, 15, 0, 0), 0, 20},
		{"--once beats the interval", map[string]string{"OUTBOX_POLL_INTERVAL_MS": "5000"}, []string{"--once"}, map[string]int{good: 1}, counts(1, 1, 0, 0), 0, 0},
		{"run is the default command", nil, []string{"run", "--once"}, map[string]int{good: 1}, counts(1, 1, 0, 0), 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			for typ, n := range tt.insert {
				insert(t, db, n, typ, `{}`)
			}
			// An SMTP that nobody answers at makes bad payloads dead, not skipped.
			env := map[string]string{"DATABASE_URL": db.URL, "SMTP_HOST": "127.0.0.1", "SMTP_PORT": "1", "SMTP_FROM": "a@example.com", "ADMIN_API_KEY": testKey}
			for k, v := range tt.env {
				env[k] = v
			}
			got := call(t, env, tt.args...)
			if got.code != tt.code || got.stdout != tt.stdout {
				t.Errorf("exit code %d, want %d; stdout %s\nstderr %s", got.code, tt.code, got.stdout, got.stderr)
			}
			if n := open(t, db); n != tt.left {
				t.Errorf("%d events left, want %d", n, tt.left)
			}
			for _, line := range strings.Split(strings.TrimSpace(got.stderr), "\n") {
				if !json.Valid([]byte(line)) {
					t.Errorf("no log line: %s", line)
				}
			}
			if !strings.Contains(got.stderr, `"channel":"sms","missing":"TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, TWILIO_FROM"`) {
				t.Errorf("nothing says that SMS are not configured: %s", got.stderr)
			}
		})
	}
}

// TestCannotRun: one line on stderr, at once, in every mode.
func TestCannotRun(t *testing.T) {
	t.Parallel()
	db, empty := pgtest.New(t), pgtest.Empty(t)
	with := func(address string, change func(*url.URL)) string {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		return u.String()
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	daemon := map[string]string{"OUTBOX_POLL_INTERVAL_MS": "1000"}
	batch := map[string]string{}
	for _, tt := range []struct {
		name  string
		modes []map[string]string
		url   string
		env   map[string]string
		want  string
	}{
		{"no schema", []map[string]string{daemon, batch}, empty.URL, nil, "run `listener migrate`"},
		{"no such database", []map[string]string{daemon, batch}, with(db.URL, func(u *url.URL) { u.Path = "/canary_database" }), nil, `database "canary_database" does not exist`},
		{"no such role", []map[string]string{daemon, batch}, with(db.URL, func(u *url.URL) { u.User = url.UserPassword("nobody_at_all", "canary_password") }), nil, "nobody_at_all"},
		{"a parameter that no server knows", []map[string]string{daemon, batch}, with(db.URL, func(u *url.URL) { u.RawQuery += "&schema=public" }), nil, `unrecognized configuration parameter "schema"`},
		{"nobody answers", []map[string]string{batch}, "postgres://u:canary_password@" + gone.Addr().String() + "/db?sslmode=disable", nil, "connection refused"},
		{"the port is taken", []map[string]string{daemon}, db.URL, map[string]string{"ADMIN_API_KEY": testKey, "OUTBOX_ADMIN_ADDR": taken.Addr().String()},
			"cannot serve the admin endpoint at OUTBOX_ADMIN_ADDR=" + taken.Addr().String()},
	} {
		for _, mode := range tt.modes {
			t.Run(tt.name+"/"+mode["OUTBOX_POLL_INTERVAL_MS"], func(t *testing.T) {
				t.Parallel()
				env := map[string]string{"DATABASE_URL": tt.url, "OUTBOX_LOG_LEVEL": "error"}
				for _, more := range []map[string]string{mode, tt.env} {
					for k, v := range more {
						env[k] = v
					}
				}
				got := call(t, env)
				if got.code != exitCannot || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 ||
					!strings.HasPrefix(got.stderr, "listener: ") || !strings.Contains(got.stderr, tt.want) || strings.Contains(got.stderr, "canary_password") {
					t.Errorf("exit code %d, stdout %q, stderr %q; want %q", got.code, got.stdout, got.stderr, tt.want)
				}
			})
		}
	}
}

func TestMigrateThenRun(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	env := map[string]string{"DATABASE_URL": db.URL, "OUTBOX_WORKERS": "none of migrate's business"}
	if got := call(t, env, "migrate"); got.code != exitOK {
		t.Fatalf("exit code %d, %s", got.code, got.stderr)
	}
	if got := call(t, env, "migrate", "status"); got.code != exitOK || !strings.Contains(got.stdout, "up to date") {
		t.Errorf("exit code %d, %s%s", got.code, got.stdout, got.stderr)
	}
	if got := call(t, map[string]string{"DATABASE_URL": db.URL}, "--once"); got.code != exitOK {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
	if got := call(t, nil, "migrate"); got.code != exitCannot || !strings.Contains(got.stderr, "DATABASE_URL is not set") {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
	if got := call(t, map[string]string{"DATABASE_URL": "postgres://u:canary@h:x/db"}, "migrate"); got.code != exitCannot || strings.Contains(got.stderr, "canary") {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
	if got := call(t, nil, "migrate", "--print"); got.code != exitOK || !strings.Contains(got.stdout, "create schema") {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
}

// posixSignals skips where a process cannot be asked to stop.
func posixSignals(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no signals to send")
	}
}

// daemonEnv is the environment of a daemon on db with an admin endpoint.
func daemonEnv(db *pgtest.DB) map[string]string {
	return map[string]string{
		"DATABASE_URL": db.URL, "OUTBOX_POLL_INTERVAL_MS": "500", "ADMIN_API_KEY": testKey, "OUTBOX_ADMIN_ADDR": "127.0.0.1:0",
	}
}

func TestDaemon(t *testing.T) {
	t.Parallel()
	posixSignals(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			insert(t, db, 3, "discard.send", `{}`)
			p := startListener(t, daemonEnv(db))
			p.ready()
			processed(t, db)
			insert(t, db, 30, "discard.send", `{"secret": "canary"}`)
			processed(t, db)
			p.line("batch", 10*time.Second)
			p.signal(sig)
			if code := p.exit(20 * time.Second); code != exitOK {
				t.Errorf("exit code %d", code)
			}
			p.line("stopped", 0)
			if p.stderr.String() != "" {
				t.Errorf("stderr: %s", &p.stderr)
			}
			for _, line := range strings.Split(strings.TrimSpace(p.stdout.String()), "\n") {
				if !json.Valid([]byte(line)) || strings.Contains(line, "canary") || strings.Contains(line, testKey) {
					t.Errorf("log line: %s", line)
				}
			}
			if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where lease_until > now()`); n != 0 {
				t.Errorf("%d events are leased", n)
			}
		})
	}
}

// hanging starts a webhook receiver that never answers, and commits an event
// for it.
func hanging(t *testing.T, db *pgtest.DB) (env map[string]string, sending func()) {
	t.Helper()
	w, err := standin.NewWebhook(webhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	w.Script(func(int, *http.Request) standin.HTTPReply { return standin.HTTPReply{Hang: true} })
	insert(t, db, 1, "webhook.send", `{"url": "`+w.URL()+`/hook", "body": {}}`)
	return map[string]string{
			"DATABASE_URL": db.URL, "OUTBOX_WEBHOOK_SECRET": webhookSecret, "OUTBOX_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8", "OUTBOX_SHUTDOWN_GRACE": "200ms",
		}, func() {
			t.Helper()
			pgtest.Eventually(t, 30*time.Second, func() (bool, string) {
				n, _ := w.Requests()
				return n > 0, "nothing is being sent"
			})
		}
}

// TestStopWhileSending: Ctrl-C works in each mode.
func TestStopWhileSending(t *testing.T) {
	t.Parallel()
	posixSignals(t)
	for _, tt := range []struct {
		name, poll string
		args       []string
	}{
		{"one batch", "0", nil},
		{"--once", "0", []string{"--once"}},
		{"daemon", "500", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			env, sending := hanging(t, db)
			env["OUTBOX_POLL_INTERVAL_MS"] = tt.poll
			p := startListener(t, env, tt.args...)
			sending()
			p.signal(syscall.SIGINT)
			var got stats
			code := p.exit(20 * time.Second)
			if tt.name == "daemon" {
				got.OK = true
			} else if err := json.Unmarshal([]byte(p.stdout.String()), &got); err != nil {
				t.Errorf("stdout: %v", err)
			}
			want := exitOK
			if tt.name == "--once" {
				want = exitFailures
			}
			if code != want || !got.OK || tt.name != "daemon" && got.Errors != 1 {
				t.Errorf("exit code %d, want %d; %+v", code, want, got)
			}
			// It was cut short, and nobody knows what the receiver has done.
			if state := pgtest.QueryVal[string](t, db, `select state from outbox.deliveries`); state != "uncertain" {
				t.Errorf("the delivery is %s", state)
			}
		})
	}
}

func TestSecondSignal(t *testing.T) {
	t.Parallel()
	posixSignals(t)
	db := pgtest.New(t)
	env, sending := hanging(t, db)
	env["OUTBOX_POLL_INTERVAL_MS"], env["OUTBOX_SHUTDOWN_GRACE"] = "500", "1m"
	p := startListener(t, env)
	sending()
	p.signal(syscall.SIGTERM)
	p.line("stopping", 10*time.Second)
	p.signal(syscall.SIGINT)
	if code := p.exit(5 * time.Second); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
}

// relay passes connections at its address on to Postgres, once it is opened.
type relay struct {
	t      testing.TB
	addr   string
	target string
	url    string

	mu    sync.Mutex
	conns []net.Conn
}

func newRelay(t *testing.T, db *pgtest.DB) *relay {
	t.Helper()
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := &relay{t: t, addr: l.Addr().String(), target: u.Host}
	u.Host = r.addr
	r.url = u.String()
	return r
}

func (r *relay) open() {
	r.t.Helper()
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, c := range r.conns {
			c.Close()
		}
	})
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", r.target)
			if err != nil {
				in.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, in, out)
			r.mu.Unlock()
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
}

// TestDatabaseComesLater: a daemon waits for its database, says so, and
// answers its probes meanwhile.
func TestDatabaseComesLater(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	insert(t, db, 1, "discard.send", `{}`)
	r := newRelay(t, db)
	env := daemonEnv(db)
	env["DATABASE_URL"] = r.url
	p := startListener(t, env)
	p.line("database not ready; trying again", 10*time.Second)
	base := "http://" + p.line("starting", 0)["admin"].(string)
	if status, body := request(t, "GET", base+"/api/healthz", ""); status != 200 || body != "ok" {
		t.Errorf("healthz: %d %s", status, body)
	}
	if status, _ := request(t, "GET", base+"/api/readyz", ""); status != 503 {
		t.Errorf("readyz: %d", status)
	}
	if status, body := request(t, "POST", base+"/api/admin/outbox/dispatch", ""); status != 500 || body != `{"error":"outbox_failed"}` {
		t.Errorf("dispatch: %d %s", status, body)
	}
	r.open()
	p.ready()
	processed(t, db)
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		status, body := request(t, "GET", base+"/api/readyz", "")
		return status == 200 && strings.Contains(body, `"ready":true,"database":true,"wake":"listen"`), fmt.Sprint(status, body)
	})
}

func TestStopWhileWaitingForTheDatabase(t *testing.T) {
	t.Parallel()
	posixSignals(t)
	db := pgtest.New(t)
	env := daemonEnv(db)
	env["DATABASE_URL"] = newRelay(t, db).url
	p := startListener(t, env)
	p.line("database not ready; trying again", 10*time.Second)
	p.signal(syscall.SIGTERM)
	if code := p.exit(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// request makes a request with the key and returns status and body.
func request(t testing.TB, method, address, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", testKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(bytes.TrimSpace(text))
}

// TestDispatchEndpoint: beside a daemon that does not notice events by
// itself, the endpoint delivers them and counts.
func TestDispatchEndpoint(t *testing.T) {
	t.Parallel()
	posixSignals(t)
	db := pgtest.New(t)
	env := daemonEnv(db)
	env["OUTBOX_POLL_INTERVAL_MS"], env["OUTBOX_LEASE"] = "3600000", "1h"
	p := startListener(t, env)
	p.ready()
	base := "http://" + p.line("starting", 0)["admin"].(string)
	pgtest.Exec(t, db, `alter table outbox_events disable trigger user`)
	// The daemon may still be looking around before it goes to sleep; the
	// endpoint shares its work then, so that only sums are certain.
	insert(t, db, 12, "discard.send", `{}`)
	insert(t, db, 1, "lead.created", `{}`)
	total := 0
	for range 3 {
		status, body := request(t, "POST", base+"/api/admin/outbox/dispatch", `{"limit": 50}`)
		var got struct{ Total, Processed, Skipped, Errors int }
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 || !strings.HasPrefix(body, `{"ok":true,"total":`) {
			t.Fatalf("%d %s", status, body)
		}
		if got.Total != got.Processed+got.Skipped+got.Errors {
			t.Errorf("%+v", got)
		}
		total += got.Total
	}
	processed(t, db)
	if total > 13 {
		t.Errorf("%d events counted, there were 13", total)
	}
	if status, body := request(t, "POST", base+"/api/admin/outbox/dispatch", ""); status != 200 || body != `{"ok":true,"total":0,"processed":0,"skipped":0,"errors":0}` {
		t.Errorf("%d %s", status, body)
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(20 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// TestOperateEndpoints: a daemon is told to pause, to resume, and to send again
// what it has delivered, and the key is on record for it.
func TestOperateEndpoints(t *testing.T) {
	t.Parallel()
	posixSignals(t)
	db := pgtest.New(t)
	p := startListener(t, daemonEnv(db))
	p.ready()
	base := "http://" + p.line("starting", 0)["admin"].(string) + "/api/admin/outbox/"
	ask := func(action, body, want string) {
		t.Helper()
		if status, got := request(t, "POST", base+action, body); status != 200 || !strings.Contains(got, want) {
			t.Fatalf("%s: %d %s, want %s", action, status, got, want)
		}
	}
	states := func(want string) {
		t.Helper()
		pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
			got := fmt.Sprint(pgtest.QueryVals[string](t, db, `select generation || ' ' || state || ' ' || count(*) from outbox.deliveries group by generation, state order by 1`))
			return got == want, got
		})
	}
	ask("pause", `{"channels": ["discard"], "reason": "counting"}`, `"done":[{"kind":"channel","pattern":"discard"}]`)
	insert(t, db, 3, "log.send", `{}`)
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) { // until it has heard of it
		insert(t, db, 1, "discard.send", `{}`)
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where state = 'ready' and last_error = 'paused: channel discard'`)
		return n > 0, "nothing is paused"
	})
	ask("resume", `{"channels": ["discard"]}`, `"done":[{"kind":"channel","pattern":"discard"}]`)
	processed(t, db)
	n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where channel = 'discard' and state = 'delivered'`)
	ask("replay", `{"channels": ["discard"], "even_delivered": true, "rate": 0, "dry_run": true}`, fmt.Sprintf(`"matched":%d,"done":%d,"refused":[]`, n, n))
	ask("replay", `{"channels": ["discard"], "even_delivered": true, "rate": 0}`, fmt.Sprintf(`"matched":%d,"done":%d,"refused":[]`, n, n))
	states(fmt.Sprintf("[0 delivered %d 1 delivered %d]", n+3, n))
	ask("cancel", `{"states": ["held"]}`, `"matched":0,"done":0,"refused":[]`)
	audit := pgtest.QueryVals[string](t, db, `select action || ' ' || count || ' ' || (who ~ '^key [0-9a-f]{6}$' and via = 'api' and origin ~ '^127') from outbox.audit order by id`)
	if got, want := fmt.Sprint(audit), fmt.Sprintf("[pause 1 true resume 1 true replay %d true]", n); got != want {
		t.Errorf("audit: %s, want %s", got, want)
	}
}

// TestOperateLeavesTheListenerItsConnections: requests that wait for the database, however many,
// keep nothing from being delivered.
func TestOperateLeavesTheListenerItsConnections(t *testing.T) {
	t.Parallel()
	posixSignals(t)
	db := pgtest.New(t)
	p := startListener(t, daemonEnv(db))
	p.ready()
	base := "http://" + p.line("starting", 0)["admin"].(string) + "/api/admin/outbox/"
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `lock table outbox.audit in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	var asked sync.WaitGroup
	for i := range 3 * leastConns {
		asked.Go(func() { request(t, "POST", base+"pause", fmt.Sprintf(`{"types": ["other.%d"]}`, i)) })
	}
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from pg_locks where relation = 'outbox.audit'::regclass and not granted`)
		return n >= deskConns, fmt.Sprintf("%d requests wait for the audit", n)
	})
	insert(t, db, 1, "discard.send", `{}`)
	// A request gives up after five seconds, so that three rounds of them would take fifteen.
	pgtest.Eventually(t, 8*time.Second, func() (bool, string) { return open(t, db) == 0, "the event waits as well" })
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked.Wait()
}

// TestStopDuringDispatch: whoever waits for a dispatch gets the answer.
func TestStopDuringDispatch(t *testing.T) {
	t.Parallel()
	posixSignals(t)
	db := pgtest.New(t)
	w, err := standin.NewWebhook(webhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	begun, release := make(chan struct{}), make(chan struct{})
	w.Script(func(n int, r *http.Request) standin.HTTPReply {
		if n == 1 {
			close(begun)
		}
		<-release
		return standin.HTTPReply{}
	})
	env := daemonEnv(db)
	env["OUTBOX_WEBHOOK_SECRET"], env["OUTBOX_WEBHOOK_ALLOW_CIDRS"] = webhookSecret, "127.0.0.0/8"
	env["OUTBOX_POLL_INTERVAL_MS"], env["OUTBOX_LEASE"] = "3600000", "1h"
	p := startListener(t, env)
	p.ready()
	base := "http://" + p.line("starting", 0)["admin"].(string)
	pgtest.Exec(t, db, `alter table outbox_events disable trigger user`)
	insert(t, db, 1, "webhook.send", `{"url": "`+w.URL()+`/hook", "body": {}}`)
	answered := make(chan string, 1)
	go func() {
		status, body := request(t, "POST", base+"/api/admin/outbox/dispatch", "")
		answered <- fmt.Sprint(status, body)
	}()
	select {
	case <-begun:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is being sent")
	}
	p.signal(syscall.SIGTERM)
	p.line("stopping", 10*time.Second)
	close(release)
	// The daemon may have claimed the event itself, before the endpoint did.
	if got := <-answered; got != `200{"ok":true,"total":1,"processed":1,"skipped":0,"errors":0}` && got != `200{"ok":true,"total":0,"processed":0,"skipped":0,"errors":0}` {
		t.Errorf("%s", got)
	}
	if code := p.exit(20 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if open(t, db) != 0 {
		t.Error("the event is not processed")
	}
}

// TestSystemd: the service is ready once events are found, feeds the
// watchdog, and says that it stops.
func TestSystemd(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("there is systemd on Linux only")
	}
	dir := shortTempDir(t)
	socket := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	var seen output
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			_, _ = seen.Write(append(buf[:n:n], '\n'))
		}
	}()
	expect := func(what string) {
		t.Helper()
		pgtest.Eventually(t, 20*time.Second, func() (bool, string) { return strings.Contains(seen.String(), what), "no " + what })
	}
	db := pgtest.New(t)
	r := newRelay(t, db)
	env := daemonEnv(db)
	env["DATABASE_URL"] = r.url
	env["NOTIFY_SOCKET"], env["WATCHDOG_USEC"] = socket, "300000"
	p := startListener(t, env)
	expect("EXTEND_TIMEOUT_USEC=")
	if strings.Contains(seen.String(), "READY=1") {
		t.Error("ready without a database")
	}
	r.open()
	expect("READY=1")
	expect("WATCHDOG=1")
	p.signal(syscall.SIGHUP)
	expect("RELOADING=1\nMONOTONIC_USEC=")
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		_, after, _ := strings.Cut(seen.String(), "RELOADING=1")
		return strings.Contains(after, "READY=1"), "not ready again"
	})
	p.signal(syscall.SIGTERM)
	expect("STOPPING=1")
	if code := p.exit(20 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}
