package listener_test

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// freezer passes bytes on between clients and a server until it is frozen:
// then it swallows them both ways and keeps the connections open, as a network
// does that lost its route. New connections pass, unless it is frozen for good.
type freezer struct {
	target string
	ln     net.Listener

	mu    sync.Mutex
	conns int
	ice   chan struct{} // closed for those who are to freeze
}

func newFreezer(t testing.TB, target string) *freezer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &freezer{target: target, ln: ln, ice: make(chan struct{})}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns++
			ice := f.ice
			f.mu.Unlock()
			go f.pass(c, ice)
		}
	}()
	return f
}

func (f *freezer) pass(c net.Conn, ice chan struct{}) {
	s, err := net.Dial("tcp", f.target)
	if err != nil {
		_ = c.Close()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { carry(s, c, ice) })
	wg.Go(func() { carry(c, s, ice) })
	wg.Wait()
	_ = c.Close()
	_ = s.Close()
}

func carry(to, from net.Conn, ice chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			_ = to.Close()
			return
		}
		select {
		case <-ice:
			_, _ = io.Copy(io.Discard, from) // until its side gives up
			return
		default:
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (f *freezer) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.ice)
	f.ice = make(chan struct{})
}

// freezeForGood freezes new connections too.
func (f *freezer) freezeForGood() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.ice)
}

func (f *freezer) accepted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns
}

// TestHalfOpenListenConnection: a LISTEN connection that is dead without a
// word is noticed within 10 s and replaced.
func TestHalfOpenListenConnection(t *testing.T) {
	t.Parallel()
	db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
	channel(d, "greeting", "carrier", p, plain)
	cfg, err := pgx.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	f := newFreezer(t, fmt.Sprintf("%s:%d", cfg.Host, cfg.Port))
	listen := cfg.Copy()
	addr := f.ln.Addr().(*net.TCPAddr)
	listen.Host, listen.Port, listen.Fallbacks = addr.IP.String(), uint16(addr.Port), nil
	l := newListener(t, db, d, func(c *listener.Config) { c.Listen = listen; c.PollInterval = time.Minute })
	start(t, l)
	listening(t, l)
	asleep(t, db) // nothing is asked over it at the moment, which a timeout of its own would end
	before := f.accepted()
	f.freeze()
	frozen := time.Now()
	pgtest.Eventually(t, 11*time.Second, func() (bool, string) {
		return f.accepted() > before && l.Health().Listening, "still on the dead connection"
	})
	t.Logf("replaced after %s", time.Since(frozen).Round(time.Millisecond))
	insert(t, db, "greeting", `{}`)
	processed(t, db, 5*time.Second)
}
