package main

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

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
