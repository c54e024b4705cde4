package listener

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgxlisten"

	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// WakeName is the name under which the trigger on outbox_events notifies.
const WakeName = "outbox_events"

// wakeLines is the payload of a notification of tell_lines.sql. That of the trigger is empty.
const wakeLines = "lines"

// The heartbeat: a notification that we send to ourselves through the pool.
// It shows that LISTEN works, which no successful LISTEN statement does (a
// transaction pooler answers it and delivers nothing), and it notices a
// connection that is dead without a word. Followers beat faster, since each
// beat is also their try to become the owner of the gate. A sweep takes one
// along, and only where the sweeps are too far apart one goes by itself.
const (
	beatEvery     = 4 * time.Second
	followerEvery = time.Second
	beatMissing   = 8 * time.Second
)

// waker owns the LISTEN connection. The gate, its ownership and LISTEN are on
// this one session, so that they end together.
type waker struct {
	config *pgx.ConnConfig
	pool   *pgxpool.Pool
	log    *slog.Logger
	sparse *sparse
	C      chan struct{} // readable after a wake-up, a reconnect, or a change of the gate
	own    string        // the wake name of our own notifications
	told   chan struct{} // is signaled when somebody has changed who stands in a line

	mu        sync.Mutex
	conn      net.Conn
	connected time.Time // when LISTEN last succeeded; zero while it does not stand
	lastBeat  time.Time // zero until the first one on this connection
	leader    bool
	epoch     int // grows with each time the gate was opened; 0 while it is shut
	opened    int // the highest epoch so far
	deaf      int // connections in a row on which nothing was ever heard
	warned    bool
	burst     []time.Time // the last notifications while the gate was open
	crowded   bool        // more came than a sleeper should be woken for
	suspected time.Time   // when it was last looked into whether commits wait
	waits     int         // how often in a row they did
	looking   sync.WaitGroup
	answer    chan bool // for the asker of the gate
	tries     int       // to connect, in a row
	beatNow   chan struct{}
	sent      time.Time // when the last heartbeat was
	sessions  int       // LISTEN sessions so far
}

func newWaker(config *pgx.ConnConfig, pool *pgxpool.Pool, log *slog.Logger, sp *sparse) *waker {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails, by its contract
	w := &waker{
		config: config.Copy(), pool: pool, log: log, sparse: sp,
		C:       make(chan struct{}, 1),
		own:     "outbox_listener_" + hex.EncodeToString(id[:]),
		beatNow: make(chan struct{}, 1),
	}
	w.config.DialFunc = w.dial
	if w.config.ConnectTimeout == 0 {
		w.config.ConnectTimeout = 5 * time.Second
	}
	w.config.RuntimeParams["application_name"] = "outbox-listener listen"
	return w
}

// dial remembers the connection, so that the watchdog can cut it.
func (w *waker) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.conn = c
	w.mu.Unlock()
	return c, nil
}

// run listens until ctx ends.
func (w *waker) run(ctx context.Context) {
	l := pgxlisten.Listener{
		Connect:        w.connect,
		ReconnectDelay: time.Millisecond, // connect does the waiting, with jitter
		LogError: func(ctx context.Context, err error) {
			w.down()
			w.mu.Lock()
			deaf := w.deaf > 0
			w.mu.Unlock()
			switch {
			case ctx.Err() != nil:
			case deaf: // said once; the sweep finds the events
				w.log.Debug("LISTEN connection lost; trying again later", "error", err)
			default:
				w.sparse.warn("LISTEN connection lost; reconnecting", err)
			}
		},
	}
	l.Handle(WakeName, wakeHandler{w})
	l.Handle(w.own, ownHandler{w})

	var wg sync.WaitGroup
	wg.Go(func() { w.beat(ctx) })
	wg.Go(func() { w.watch(ctx) })
	if err := l.Listen(ctx); err != nil && !errors.Is(err, context.Canceled) {
		w.log.Error("listening ended", "error", err)
	}
	wg.Wait()
	w.looking.Wait()
	w.down()
}

// connect opens the session, after a jittered wait when it is not the first
// try.
func (w *waker) connect(ctx context.Context) (*pgx.Conn, error) {
	w.mu.Lock()
	tries, deaf := w.tries, w.deaf
	w.tries++
	w.mu.Unlock()
	if tries > 0 {
		wait(ctx, pause(tries))
	}
	if deaf > 0 {
		wait(ctx, min(time.Duration(deaf)*10*time.Second, time.Minute))
	}
	return pgx.ConnectConfig(ctx, w.config)
}

// sessionSettings makes the session last while we do, and no longer. Limits
// that the role may have as defaults would end it, since it is idle by nature.
// Where we are gone without a word the server must notice too: until it does,
// the session holds the gate open, and every insert notifies nobody. Not every
// version knows every name. They are set after the first heartbeat: behind a
// transaction pooler they would stay with whoever gets that session next.
const sessionSettings = `select set_config(s.name, w.setting, false)
	from pg_catalog.pg_settings as s
	join (values
		('statement_timeout', '0'), ('lock_timeout', '0'), ('transaction_timeout', '0'),
		('idle_session_timeout', '0'), ('idle_in_transaction_session_timeout', '0'),
		('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3')
	) as w (name, setting) on w.name = s.name`

// down forgets everything that ended with the session.
func (w *waker) down() {
	w.mu.Lock()
	w.connected, w.lastBeat = time.Time{}, time.Time{}
	w.leader, w.epoch, w.burst, w.crowded = false, 0, nil, false
	w.reply(false)
	w.mu.Unlock()
	signal(w.C)
}

// reply answers whoever asked for the gate. The caller holds w.mu.
func (w *waker) reply(ok bool) {
	if w.answer != nil {
		w.answer <- ok
		w.answer = nil
	}
}

// listening reports whether notifications arrive.
func (w *waker) listening() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.lastBeat.IsZero()
}

// session counts the sessions so far: what was remembered under an older one
// may be stale.
func (w *waker) session() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sessions
}

// beat sends the heartbeats.
func (w *waker) beat(ctx context.Context) {
	timer := time.NewTimer(followerEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.beatNow:
		case <-timer.C:
		}
		w.mu.Lock()
		up, every := !w.connected.IsZero(), followerEvery
		if w.leader {
			every = beatEvery
		}
		rest := every - time.Since(w.sent)
		if !w.lastBeat.IsZero() && rest > 0 {
			w.mu.Unlock()
			timer.Reset(rest)
			continue
		}
		w.sent = time.Now()
		w.mu.Unlock()
		if up {
			if err := w.notify(ctx, "beat"); err != nil && ctx.Err() == nil {
				w.sparse.warn("heartbeat not sent", err)
			}
		}
		timer.Reset(every)
	}
}

// beatAlong returns the wake name to send a heartbeat to with something else;
// "" while there is nobody to hear it.
func (w *waker) beatAlong() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.connected.IsZero() {
		return ""
	}
	w.sent = time.Now()
	return w.own
}

// beatAlone has the heartbeat sent by itself, since what it was to go along
// with has failed.
func (w *waker) beatAlone() {
	w.mu.Lock()
	w.sent = time.Time{}
	w.mu.Unlock()
	signal(w.beatNow)
}

func (w *waker) notify(ctx context.Context, what string) error {
	ctx, cancel := context.WithTimeout(ctx, beatEvery)
	defer cancel()
	_, err := w.pool.Exec(ctx, `select pg_catalog.pg_notify($1, $2)`, w.own, what)
	return err
}

// watch cuts a session on which no heartbeat came for too long.
func (w *waker) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.mu.Lock()
		since := w.connected
		if w.lastBeat.After(since) {
			since = w.lastBeat
		}
		if since.IsZero() || time.Since(since) < beatMissing {
			w.mu.Unlock()
			continue
		}
		never, conn, warned := w.lastBeat.IsZero(), w.conn, w.warned
		if never {
			w.warned = true
			w.deaf++
		}
		w.mu.Unlock()
		switch {
		case !never:
			w.sparse.warn("LISTEN connection is silent; cutting it", fmt.Errorf("no heartbeat for %s", beatMissing))
		case !warned:
			w.log.Warn("LISTEN is answered but nothing arrives, as behind a transaction pooler: living by the sweep",
				"mend", "set OUTBOX_LISTEN_DATABASE_URL to a direct connection")
		}
		_ = conn.Close() // the reader gets the error
		w.down()
	}
}

// wakeHandler takes the notifications of the trigger.
type wakeHandler struct{ w *waker }

// HandleBacklog runs after each LISTEN: what came before it is found by
// looking.
func (h wakeHandler) HandleBacklog(context.Context, string, *pgx.Conn) error {
	failpoint.Hit("K1")
	w := h.w
	w.mu.Lock()
	w.sessions++
	w.mu.Unlock()
	signal(w.C)
	return nil
}

// The pace of notifications while the gate is open. A few at a time are the
// fastest way to hear of events; from suspectOf within suspectWithin on it is
// looked into whether commits wait for each other because of them, and burstOf
// within burstWithin are more than a sleeper should be woken for.
const (
	suspectOf     = 3
	suspectWithin = 50 * time.Millisecond // a slow disk lets no more than these through
	suspectEvery  = 20 * time.Millisecond
	burstOf       = 16
	burstWithin   = 10 * time.Millisecond
)

func (h wakeHandler) HandleNotification(ctx context.Context, n *pgconn.Notification, conn *pgx.Conn) error {
	w := h.w
	if n.Payload == wakeLines {
		signal(w.told)
		return nil
	}
	now := time.Now()
	w.mu.Lock()
	shut, suspect := false, false
	if w.epoch > 0 {
		w.burst = append(slices.DeleteFunc(w.burst, func(t time.Time) bool { return now.Sub(t) > suspectWithin }), now)
		n := len(w.burst)
		shut = w.crowded || n >= burstOf && now.Sub(w.burst[n-burstOf]) <= burstWithin
		suspect = n >= suspectOf && now.Sub(w.suspected) >= suspectEvery
		if suspect {
			w.suspected = now
		}
		if shut {
			w.epoch, w.burst, w.crowded, w.waits = 0, nil, false, 0
		}
	}
	w.mu.Unlock()
	signal(w.C)
	if suspect && !shut {
		w.looking.Go(func() { w.suspect(ctx) })
	}
	if !shut {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, `select pg_catalog.pg_advisory_unlock($1)`, gateKey); err != nil {
		return fmt.Errorf("shut the gate: %w", err)
	}
	return nil
}

// ownHandler takes the notifications that we send to ourselves: they run what
// must run on this session.
type ownHandler struct{ w *waker }

func (h ownHandler) HandleBacklog(context.Context, string, *pgx.Conn) error {
	h.w.mu.Lock()
	h.w.connected = time.Now()
	h.w.mu.Unlock()
	signal(h.w.beatNow)
	return nil
}

func (h ownHandler) HandleNotification(ctx context.Context, n *pgconn.Notification, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	switch n.Payload {
	case "beat":
		return h.w.beaten(ctx, conn)
	case "gate":
		return h.w.tryGate(ctx, conn)
	}
	return nil
}

// beaten notes a heartbeat, and tries to become the owner of the gate.
func (w *waker) beaten(ctx context.Context, conn *pgx.Conn) error {
	w.mu.Lock()
	first := w.lastBeat.IsZero()
	w.lastBeat = time.Now()
	if w.connected.IsZero() {
		w.connected = w.lastBeat
	}
	w.deaf, w.tries, w.warned = 0, 0, false
	leader := w.leader
	w.mu.Unlock()
	if first {
		w.log.Info("listening", "wake", WakeName)
		signal(w.C)
		if _, err := conn.Exec(ctx, sessionSettings); err != nil {
			return fmt.Errorf("prepare the LISTEN session: %w", err)
		}
	}
	if leader {
		return nil
	}
	if err := conn.QueryRow(ctx, `select pg_catalog.pg_try_advisory_lock($1)`, leaderKey).Scan(&leader); err != nil {
		return fmt.Errorf("become the owner of the gate: %w", err)
	}
	if leader {
		w.mu.Lock()
		w.leader = true
		w.mu.Unlock()
		w.log.Debug("owner of the gate")
		signal(w.C)
	}
	return nil
}
