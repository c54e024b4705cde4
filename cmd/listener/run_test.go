package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
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
			p.line("DATABASE_URL has rights that it should not have", 0) // a superuser's
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
