//go:build unix

package faultrig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// lane is a database with listeners of its own, and a receiver of their webhooks:
// what one thing after the other is measured in. Several lanes run side by side.
type lane struct {
	world    *World
	database string
	pool     *pgxpool.Pool
	dir      string
	log      *syncWriter
	lines    *watched
	proxy    *Proxy // before the database, for all but LISTEN
	listen   *Proxy // before the database, for LISTEN
	config   laneConfig
	daemons  []*daemon
	hook     *receiver
}

// laneConfig says how the listeners of a lane run.
type laneConfig struct {
	daemons int
	lease   time.Duration
	poll    time.Duration
	grace   time.Duration
	skew    time.Duration
	more    []string // of their environment
}

// newLane starts one. It ends with the test.
func newLane(t *testing.T, w *World, c laneConfig) *lane {
	t.Helper()
	l := &lane{world: w, database: "lane_" + strings.ReplaceAll(uuid.NewString()[:13], "-", "_"), dir: t.TempDir(), hook: newReceiver(t)}
	if err := w.exec(t.Context(), "postgres", fmt.Sprintf("create database %s template %s", l.database, w.template)); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(l.dir, "log.txt"))
	if err != nil {
		t.Fatal(err)
	}
	l.lines = &watched{to: file}
	l.log = &syncWriter{to: l.lines}
	if l.pool, err = pgxpool.New(t.Context(), w.server.URL(l.database)+"&application_name="+rigName); err != nil {
		t.Fatal(err)
	}
	addr, _ := w.database()
	for _, p := range []**Proxy{&l.proxy, &l.listen} {
		if *p, err = NewProxy(addr); err != nil {
			t.Fatal(err)
		}
	}
	l.config = c
	t.Cleanup(func() {
		for _, d := range l.daemons {
			d.retire(0)
		}
		if t.Failed() {
			if text, err := os.ReadFile(filepath.Join(l.dir, "log.txt")); err == nil {
				t.Logf("the last of what the listeners said:\n%s", text[max(0, len(text)-4000):])
			}
		}
		l.pool.Close()
		if err := errors.Join(l.proxy.Close(), l.listen.Close(), l.log.to.Close()); err != nil {
			t.Log(err)
		}
	})
	for range c.daemons {
		l.start(t, l.add(t), "")
	}
	return l
}

// add adds a listener that is not started yet.
func (l *lane) add(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{number: len(l.daemons), dir: filepath.Join(l.dir, fmt.Sprintf("d%d", len(l.daemons))),
		program: l.world.program, log: l.log, faults: &faults{}, lease: l.config.lease, skew: l.config.skew,
		env: func(name string) []string { return l.environment(l.config, name) }}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l.daemons = append(l.daemons, d)
	return d
}

// processed waits until no event is left to do.
func (l *lane) processed(ctx context.Context) error {
	for deadline := time.Now().Add(patience); ; sleep(ctx, 10*time.Millisecond) {
		var left int
		err := l.pool.QueryRow(ctx, `select count(*) from outbox_events where processed_at is null and type = 'webhook.send'`).Scan(&left)
		if err == nil && left == 0 {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("%d events are left after %s, %w", left, patience, err)
		}
	}
}

func (l *lane) environment(c laneConfig, name string) []string {
	url := func(addr string) string {
		return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable&application_name=%s", addr, l.database, name)
	}
	return append(append(surroundings(),
		"DATABASE_URL="+url(l.proxy.Addr()),
		"OUTBOX_LISTEN_DATABASE_URL="+url(l.listen.Addr()),
		"OUTBOX_STATE_DIR="+l.dir,
		fmt.Sprintf("OUTBOX_POLL_INTERVAL_MS=%d", c.poll.Milliseconds()),
		"OUTBOX_LEASE="+c.lease.String(),
		"OUTBOX_MAX_CRASHES=0", // they are killed by chance, and no event is the reason
		"OUTBOX_SHUTDOWN_GRACE="+c.grace.String(),
		"OUTBOX_LOG_FORMAT=json",
		"OUTBOX_WEBHOOK_SECRET="+webhookSecret,
		"OUTBOX_WEBHOOK_ALLOW_CIDRS=127.0.0.0/8"), c.more...)
}

// start starts a process with this OUTBOX_FAILPOINT and waits until it listens.
func (l *lane) start(t *testing.T, d *daemon, failpoint string) {
	t.Helper()
	heard := l.lines.next(`"msg":"listening"`)
	d.mu.Lock()
	err := d.start(failpoint)
	d.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	l.await(t, heard, "a listener that listens")
}

// await waits for what was to be said or to arrive.
func (l *lane) await(t *testing.T, c <-chan time.Time, what string) time.Time {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case at := <-c:
		return at
	case <-timer.C:
		t.Fatalf("no %s within %s", what, patience)
		return time.Time{}
	}
}

// insert commits n events and returns the id of the first.
func (l *lane) insert(ctx context.Context, n int) (first uuid.UUID, err error) {
	first = uuid.New()
	_, err = l.pool.Exec(ctx, `insert into outbox_events (id, type, payload)
		select case when n = 1 then $1 else gen_random_uuid() end, 'webhook.send', jsonb_build_object('url', $2::text, 'body', n)
		from generate_series(1, $3::int) as n`, first, l.hook.url, n)
	return first, err
}

// insertWaiting commits n parked events, whose deliveries are due: one to be tried again, the
// next one at its time, the next one to be sent again since it may have arrived, and so on.
func (l *lane) insertWaiting(ctx context.Context, n int) error {
	_, err := l.pool.Exec(ctx, `with e as (
			insert into outbox_events (type, payload, lease_until)
			select 'webhook.send', jsonb_build_object('url', $1::text, 'body', n::text), 'infinity' from generate_series(1, $2::int) as n
			returning *)
		insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, content, due_at, created_at)
		select (encode(substr(int8send(e.seq), 3), 'hex') || substr(md5(e.id::text), 1, 20))::uuid, e.id, e.seq, e.type, e.created_at, 'direct', 'webhook', 'webhook', $1,
			(array['retry', 'scheduled', 'uncertain'])[1 + e.seq % 3], case when e.seq % 3 = 1 then 0 else 1 end, e.payload, clock_timestamp(), e.created_at
		from e`, l.hook.url, n)
	return err
}

// leasedBy counts what a process has left leased.
func (l *lane) leasedBy(ctx context.Context, name string) (n int, err error) {
	err = l.pool.QueryRow(ctx, leased, name).Scan(&n)
	return n, err
}

// receiver takes webhooks.
type receiver struct {
	url string

	mu   sync.Mutex
	hold bool          // the next one gets no answer before its client goes away
	took time.Duration // how long an answer takes otherwise
	got  chan time.Time
	n    int
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{url: "http://" + l.Addr().String() + "/hook", got: make(chan time.Time, 1)}
	s := &http.Server{Handler: r}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l) // until it is closed
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-served
	})
	return r
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	at := time.Now()
	_, _ = io.Copy(io.Discard, req.Body)
	r.mu.Lock()
	hold, took := r.hold, r.took
	r.hold = false
	r.n++
	r.mu.Unlock()
	select {
	case r.got <- at:
	default: // nobody waits for it
	}
	if hold {
		<-req.Context().Done()
		return
	}
	time.Sleep(took)
	w.WriteHeader(http.StatusNoContent)
}

// expect forgets what came so far, and returns where the next arrival is told.
func (r *receiver) expect(hold bool) <-chan time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.got:
	default:
	}
	r.hold = hold
	return r.got
}

// count is how many came.
func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// watched tells when a line comes that has something in it.
type watched struct {
	to io.WriteCloser

	mu    sync.Mutex
	waits []watch
}

type watch struct {
	what []byte
	at   chan time.Time
}

// next returns where the next line is told that has what in it.
func (w *watched) next(what string) <-chan time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan time.Time, 1)
	w.waits = append(w.waits, watch{[]byte(what), c})
	return c
}

// Write implements io.Writer.
func (w *watched) Write(b []byte) (int, error) {
	now := time.Now()
	w.mu.Lock()
	left := w.waits[:0]
	for _, one := range w.waits {
		if bytes.Contains(b, one.what) {
			one.at <- now
		} else {
			left = append(left, one)
		}
	}
	w.waits = left
	w.mu.Unlock()
	return w.to.Write(b)
}

// Close implements io.Closer.
func (w *watched) Close() error { return w.to.Close() }
