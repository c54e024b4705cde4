package smtp

import (
	"context"
	"errors"
	"sync"
	"time"
)

var errClosed = errors.New("the sender is closed")

// get returns the connection that was used last, or a new one where none is
// kept or fresh asks for it.
func (s *Sender) get(ctx context.Context, fresh bool) (c *conn, reused bool, f *failure) {
	s.mu.Lock()
	closed := s.closed
	if n := len(s.idle); !closed && !fresh && n > 0 {
		c = s.idle[n-1]
		s.idle = s.idle[:n-1]
	}
	s.mu.Unlock()
	if closed {
		return nil, false, failed(stageConnect, errClosed)
	}
	if c != nil {
		c.timer.Stop()
		return c, true, nil
	}
	c, err := s.dial(ctx)
	if err != nil {
		return nil, false, failed(stageConnect, err)
	}
	return c, false, nil
}

// put keeps c for the next message.
func (s *Sender) put(c *conn) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		c.quit()
		return
	}
	c.timer = time.AfterFunc(s.idleTimeout, func() {
		if s.take(c) {
			c.quit()
		}
	})
	s.idle = append(s.idle, c)
	s.mu.Unlock()
}

// take removes c from the idle connections. It reports false when c was not
// among them: somebody else has it.
func (s *Sender) take(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, have := range s.idle {
		if have == c {
			s.idle = append(s.idle[:i], s.idle[i+1:]...)
			return true
		}
	}
	return false
}

// Close takes leave of the server on all idle connections, waiting two
// seconds at most. Connections in use are closed when their message is
// done; every later Send fails as Down. The error is always nil.
func (s *Sender) Close() error {
	s.mu.Lock()
	s.closed = true
	idle := s.idle
	s.idle = nil
	s.mu.Unlock()

	var wg sync.WaitGroup
	for _, c := range idle {
		c.timer.Stop()
		wg.Go(c.quit)
	}
	wg.Wait()
	return nil
}
