package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// posixSignals skips where a process cannot be asked to stop.
func posixSignals(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no signals to send")
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
