package smtp

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// maxRead is how many bytes a server may say in one transaction, or from the
// greeting to the login. Its replies are collected in memory as they come.
const maxRead = 64 << 10

var errTooMuch = errors.New("the server talks without end")

// guard is a net.Conn that obeys a context. The mail library sets deadlines
// of its own and knows no context once it is connected; guard caps the
// former by the latter.
type guard struct {
	net.Conn

	mu     sync.Mutex
	limit  time.Time // no deadline goes beyond it; zero means that none is set
	cut    bool      // the context has ended
	left   int       // bytes that may still be read
	failed bool      // a write failed since bind, so not all of it left
	dot    bool      // for failpoints: what is written next ends with the final dot
}

// bind caps all deadlines by those of ctx, and lets every read and write
// fail as soon as ctx ends, until release is called. release reports false
// when ctx ended first; the connection is then of no more use.
func (g *guard) bind(ctx context.Context) (release func() bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit, _ = ctx.Deadline()
	g.left = maxRead
	g.cut, g.failed = false, false
	// An error here shows again in the read or write that follows.
	_ = g.Conn.SetDeadline(g.limit)
	return context.AfterFunc(ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.cut = true
		_ = g.Conn.SetDeadline(longAgo)
	})
}

// hurry moves the limit to no later than d from now.
func (g *guard) hurry(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = g.within(time.Now().Add(d))
	_ = g.Conn.SetDeadline(g.limit)
}

var longAgo = time.Unix(1, 0)

// within returns t, or the limit where that is earlier. It wants mu held.
func (g *guard) within(t time.Time) time.Time {
	switch {
	case g.cut:
		return longAgo
	case g.limit.IsZero():
		return t
	case t.IsZero(), t.After(g.limit):
		return g.limit
	}
	return t
}

func (g *guard) SetDeadline(t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.Conn.SetDeadline(g.within(t))
}

func (g *guard) SetReadDeadline(t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.Conn.SetReadDeadline(g.within(t))
}

func (g *guard) SetWriteDeadline(t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.Conn.SetWriteDeadline(g.within(t))
}

func (g *guard) Read(p []byte) (int, error) {
	g.mu.Lock()
	left := g.left
	g.mu.Unlock()
	if left <= 0 {
		return 0, errTooMuch
	}
	n, err := g.Conn.Read(p[:min(len(p), left)])
	g.mu.Lock()
	g.left -= n
	g.mu.Unlock()
	return n, err
}

func (g *guard) Write(p []byte) (int, error) {
	n, err := g.Conn.Write(p)
	if failpoint.Enabled && g.dot {
		failpoint.Hit("K16e")
	}
	if err != nil {
		g.mu.Lock()
		g.failed = true
		g.mu.Unlock()
	}
	return n, err
}

// writeFailed reports whether some of what was written since bind did not
// leave this machine's hands.
func (g *guard) writeFailed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failed
}
