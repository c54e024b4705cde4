package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

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
