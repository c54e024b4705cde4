package admin

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
)

// guard bounds the connections of a listener. When a new one comes and there
// are too many, the oldest of those that no request is being answered on is
// closed: clients that send their request a byte at a time, or none at all,
// keep nobody out.
type guard struct {
	net.Listener
	most int

	closed   sync.Once
	closeErr error

	mu    sync.Mutex
	conns *list.List // of *conn, the oldest in front
}

type conn struct {
	net.Conn
	guard *guard
	place *list.Element // nil once it is closed
	busy  bool          // a request is being answered on it
}

func newGuard(l net.Listener, most int) *guard {
	return &guard{Listener: l, most: most, conns: list.New()}
}

// Close implements net.Listener. It may be called again.
func (g *guard) Close() error {
	g.closed.Do(func() { g.closeErr = g.Listener.Close() })
	return g.closeErr
}

// Accept implements net.Listener.
func (g *guard) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if mine := g.admit(c); mine != nil {
			return mine, nil
		}
		_ = c.Close() // all others are being answered
	}
}

func (g *guard) admit(c net.Conn) net.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns.Len() >= g.most && !g.evict() {
		return nil
	}
	mine := &conn{Conn: c, guard: g}
	mine.place = g.conns.PushBack(mine)
	return mine
}

// evict closes the oldest connection that is not busy. The caller holds g.mu.
func (g *guard) evict() bool {
	for e := g.conns.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*conn); !c.busy {
			c.drop()
			return true
		}
	}
	return false
}

// closeWaiting closes every connection that no request is being answered on.
func (g *guard) closeWaiting() {
	_ = g.Close() // the server closes it too, and gets the error
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.evict() {
	}
}

// drop closes c. The caller holds the guard's mu.
func (c *conn) drop() {
	if c.place != nil {
		c.guard.conns.Remove(c.place)
		c.place = nil
	}
	_ = c.Conn.Close() // a second time where the server does it too
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.guard.mu.Lock()
	defer c.guard.mu.Unlock()
	if c.place == nil {
		return net.ErrClosed
	}
	c.drop()
	return nil
}

type connKey struct{}

// withConn is the http.Server's ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// busy marks the connection of r as one that is being answered on; the
// returned function takes the mark away.
func busy(r *http.Request) func() {
	c, ok := r.Context().Value(connKey{}).(*conn)
	if !ok {
		return func() {}
	}
	c.mark(true)
	return func() { c.mark(false) }
}

func (c *conn) mark(busy bool) {
	c.guard.mu.Lock()
	defer c.guard.mu.Unlock()
	c.busy = busy
}
