package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/devpg"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// files counts the open files of a process, its sockets among them.
func (p *proc) files() int {
	p.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(list)
}

// cpu is the time that a process has computed so far, to a hundredth of a second.
func (p *proc) cpu() time.Duration {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	// After the name in parentheses, the 12th and 13th field: see proc_pid_stat(5).
	_, rest, _ := strings.Cut(string(text), ") ")
	var ticks int
	for _, field := range strings.Fields(rest)[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			p.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// quiet waits for a second in which a process hardly computes.
func (p *proc) quiet(within time.Duration) {
	p.t.Helper()
	since, before := time.Now(), p.cpu()
	pgtest.Eventually(p.t, within, func() (bool, string) {
		took := time.Since(since)
		if took < time.Second {
			return false, ""
		}
		used := p.cpu() - before
		since, before = time.Now(), p.cpu()
		return used < took/5, fmt.Sprintf("it computed for %s of %s", used, took)
	})
}

// TestFewFiles: a daemon that may open no more than 32 files says what it lacks, goes on
// with what it has, and loses nothing.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["OUTBOX_WORKERS"], w.env["OUTBOX_MAX_ATTEMPTS"] = "64", "1000"
	w.webhook.Script(func(int, *http.Request) standin.HTTPReply {
		time.Sleep(100 * time.Millisecond) // so that many are under way at once
		return standin.HTTPReply{}
	})
	p := newProc(t, t.TempDir(), w.env)
	p.cmd.Path, p.cmd.Args = "/bin/sh", []string{"sh", "-c", `ulimit -n 32 && exec "$0"`, p.cmd.Path}
	p.start()
	const events = 300
	pgtest.Exec(t, w.db, `insert into outbox_events (type, payload) select 'webhook.send', jsonb_build_object('url', $1::text, 'body', n) from generate_series(1, $2::integer) as n`,
		w.webhook.URL(), events)
	pgtest.Drains(t, 30*time.Second, "events are not processed", func() int {
		// What waits for its next attempt, and is nobody's, is due again at once.
		pgtest.Exec(t, w.db, `update outbox.deliveries set due_at = now() where due_at > now() and (claim is null or get_byte(uuid_send(claim), 6) >> 4 = 5)`)
		return open(t, w.db)
	})
	if n, delivered := len(w.webhook.Received()), pgtest.QueryVal[int](t, w.db, `select count(*) from outbox.deliveries where state = 'delivered'`); n != events || delivered != events {
		t.Errorf("%d webhooks, and %d are on record; want %d", n, delivered, events)
	}
	if log := p.stdout.String(); !strings.Contains(log, "too many open files") {
		t.Errorf("it does not say what it lacks: %.2000s", log)
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(20 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// TestForeignNotifications: 10,000 notifications of somebody who may do nothing but
// connect keep no event waiting and leave no loop busy, and none of them stays in the
// server's queue.
func TestForeignNotifications(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stranger := connectAs(t, w.db, pgtest.Role(t, w.db, "stranger"))
	p := startListener(t, w.env)
	pgtest.Exec(t, w.db, fmt.Sprintf(`insert into outbox_events (type, payload) values ('webhook.send', '{"url": "%s", "body": {}}')`, w.webhook.URL()))
	processed(t, w.db)
	before, begun, most := p.cpu(), time.Now(), time.Duration(0)
	junk := []string{"", "outbox", `{"seq": -1}`, "' \" \\ ; drop table outbox_events", "ü\u202e😀", strings.Repeat("x", 7999)}
	const notifications = 10_000
	for i := range notifications {
		if _, err := stranger.Exec(t.Context(), `select pg_notify('outbox_events', $1)`, junk[i%len(junk)]); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 500 {
			at := time.Now()
			pgtest.Exec(t, w.db, fmt.Sprintf(`insert into outbox_events (type, payload) values ('webhook.send', '{"url": "%s", "body": %d}')`, w.webhook.URL(), i))
			processed(t, w.db)
			most = max(most, time.Since(at))
		}
	}
	t.Logf("%s for %d, of which it computed for %s; the slowest event took %s", time.Since(begun), notifications, p.cpu()-before, most)
	if n := len(w.webhook.Received()); n != 1+notifications/1000 {
		t.Errorf("%d webhooks", n)
	}
	p.quiet(15 * time.Second)
	if usage := pgtest.QueryVal[float64](t, w.db, `select pg_notification_queue_usage()`); usage > 0.001 {
		t.Errorf("%v of the queue of notifications is in use", usage)
	}
}

// connectAs connects to db as role, which pgtest.Role has made.
func connectAs(t *testing.T, db *pgtest.DB, role string) *pgx.Conn {
	t.Helper()
	at, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	at.User = url.UserPassword(role, "secret")
	conn, err := pgx.Connect(t.Context(), at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

// TestRoleRefused: a role that may not connect any more is told of in a clear line, not
// many of them, and work goes on as soon as it may.
func TestRoleRefused(t *testing.T) {
	t.Parallel()
	server := pgtest.Private(t)
	for _, tt := range []struct{ name, spoil, mend, says string }{
		{"connection limit 0", `alter role %s connection limit 0`, `alter role %s connection limit -1`, "too many connections for role"},
		{"another password", `alter role %s password 'another'`, `alter role %s password 'secret'`, "password authentication failed"},
	} {
		db := pgtest.NewOn(t, server)
		role := pgtest.Role(t, db, "daemon")
		if got := call(t, map[string]string{"DATABASE_URL": db.URL}, "migrate", "--grant", role); got.code != exitOK {
			t.Fatal(got.stderr)
		}
		asks(t, db, server, role)
		t.Run(tt.name, func(t *testing.T) {
			at, err := url.Parse(db.URL)
			if err != nil {
				t.Fatal(err)
			}
			at.User = url.UserPassword(role, "secret")
			env := daemonEnv(db)
			env["DATABASE_URL"] = at.String()
			p := startListener(t, env)
			p.ready()
			begun := time.Now()
			pgtest.Exec(t, db, fmt.Sprintf(tt.spoil, role))
			pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
				// One that was about to log in may be there after that.
				left := pgtest.QueryVal[int](t, db, `select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1`, role)
				return left == 0 && strings.Contains(p.stdout.String(), tt.says), "it does not say: " + tt.says
			})
			insert(t, db, 3, "discard.send", `{}`)
			p.quiet(10 * time.Second)
			lines, took := strings.Count(p.stdout.String(), tt.says), time.Since(begun)
			if most := 3 * (int(took/time.Second) + 2); lines > most { // claims, sweeps and LISTEN
				t.Errorf("%d lines in %s", lines, took)
			}
			if n := open(t, db); n != 3 {
				t.Errorf("%d events wait, want 3", n)
			}
			pgtest.Exec(t, db, fmt.Sprintf(tt.mend, role))
			processed(t, db)
			if strings.Contains(p.stdout.String(), "secret") {
				t.Error("the password is in the log")
			}
		})
	}
}

// asks has the server ask role for its password, in place of trusting it.
func asks(t *testing.T, db *pgtest.DB, server *devpg.Server, role string) {
	t.Helper()
	path := filepath.Join(server.DataDir(), "pg_hba.conf")
	rules, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte("host all "+role+" all scram-sha-256\n"), rules...), 0o600); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, db, `select pg_reload_conf()`)
	at, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	at.User = url.UserPassword(role, "wrong")
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		conn, err := pgx.Connect(t.Context(), at.String())
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err != nil, "it is still trusted"
	})
}

// TestCutConnections: after 100 cut connections, or as many as OUTBOX_TEST_CUTS says, a
// daemon has no more open files and goroutines than one that has lost none.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	goroutines := func(p *proc) int {
		p.signal(syscall.SIGQUIT) // the runtime ends with a list of them
		p.exit(20 * time.Second)
		text := p.stderr.String()
		p.stderr = output{}
		return strings.Count(text, "\ngoroutine ")
	}
	idle := pgtest.New(t)
	insert(t, idle, 3, "discard.send", `{}`)
	whole := startListener(t, daemonEnv(idle))
	whole.ready()
	processed(t, idle)

	db := pgtest.New(t)
	p := startListener(t, daemonEnv(db))
	p.ready()
	most, cut, begun := 100, 0, time.Now()
	if n, err := strconv.Atoi(os.Getenv("OUTBOX_TEST_CUTS")); err == nil {
		most = n
	}
	pgtest.Drains(t, 20*time.Second, "connections are not cut", func() int {
		n := pgtest.QueryVal[int](t, db, `select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and application_name like 'outbox-listener%'`)
		if n > 0 {
			cut += n
			insert(t, db, 1, "discard.send", `{}`)
		}
		return max(0, most-cut)
	})
	t.Logf("%d connections in %s", cut, time.Since(begun))
	processed(t, db)
	pgtest.Eventually(t, 15*time.Second, func() (bool, string) {
		n, most := p.files(), whole.files()+8 // a pool has as many connections as were needed at once
		return n <= most, fmt.Sprintf("%d open files, and %d without cuts", n, most-8)
	})
	insert(t, db, 3, "discard.send", `{}`)
	processed(t, db)
	p.quiet(15 * time.Second)
	if n, most := goroutines(p), goroutines(whole); n == 0 || n > most+16 { // two for each connection
		t.Errorf("%d goroutines, and %d without cuts", n, most)
	}
}

// TestFullDisk: while the server's disk is full nothing new is sent, and when there is
// room again, and the server is started, all is delivered, once.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "outbox-full-") // where the server's account may go
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=120m,mode=0711"); err != nil {
		t.Skipf("no small disk can be mounted here, which needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	server, err := devpg.Start(t.Context(), devpg.Options{DataDir: filepath.Join(dir, "data"), Settings: map[string]string{
		"shared_buffers": "16MB", "min_wal_size": "32MB", "max_wal_size": "32MB", "wal_recycle": "off", "jit": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop(t.Context()) })
	w := newWorldOn(t, pgtest.NewOn(t, server))
	w.env["OUTBOX_LOG_LEVEL"] = "info"
	w.twilio.Script(func(int, *http.Request) standin.TwilioReply {
		time.Sleep(20 * time.Millisecond)
		return standin.TwilioReply{}
	})
	const events = 1000
	pgtest.Exec(t, w.db, `insert into outbox_events (type, payload) select 'sms.send', jsonb_build_object('to', '+15005550009', 'body', 'number ' || n) from generate_series(1, $1::integer) as n`, events)
	p := startListener(t, w.env)
	sent := func() int { return len(w.twilio.Received()) }
	pgtest.Eventually(t, 30*time.Second, func() (bool, string) { return sent() > 100, "nothing is sent" })

	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	// The end of what is left of the log of writes; the server gives up where it cannot go on writing there.
	for range 10 {
		if _, err := w.db.Pool.Exec(t.Context(), `select pg_switch_wal()`); err != nil {
			break
		}
	}
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		_, err := w.db.Pool.Exec(t.Context(), `update outbox.state set floor = floor`)
		return err != nil, "the server goes on writing"
	})
	p.line("outcomes not recorded; trying again, nothing new is begun", 20*time.Second)
	atFirst := sent()
	if atFirst == events {
		t.Fatal("all was sent before the disk was full")
	}
	select {
	case <-time.After(3 * time.Second): // during which nothing is to happen
	case <-p.ended:
		t.Fatal("the daemon has ended")
	}
	if n := sent(); n > atFirst+16 {
		t.Errorf("%d were sent while nothing could be written", n-atFirst)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context(), devpg.Immediate); err != nil {
		t.Fatal(err)
	}
	pgtest.Drains(t, 40*time.Second, "events are not processed", func() int {
		var n int
		if w.db.Pool.QueryRow(t.Context(), `select count(*) from outbox_events where processed_at is null`).Scan(&n) != nil {
			return events // it is starting
		}
		return n
	})
	words := map[string]int{}
	for _, m := range w.twilio.Received() {
		words[m.Body]++
	}
	if len(words) != events || sent() != events {
		t.Errorf("%d SMS of %d events, of %d that there were", sent(), len(words), events)
	}
}

// fill writes a file until there is no room for more of it.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	block := make([]byte, 1<<16)
	for len(block) > 0 {
		if _, err := file.Write(block); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			block = block[:len(block)/2]
		}
	}
}
