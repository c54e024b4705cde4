//go:build unix

package faultrig

import (
	"net"
	"sync"
	"time"
)

// Proxy passes TCP connections on to a target, and spoils them when told to.
// Its methods may be called concurrently.
type Proxy struct {
	target   string
	listener net.Listener
	pumps    sync.WaitGroup

	mu      sync.Mutex
	links   map[*link]bool
	closed  bool
	swallow bool
	refuse  bool
	latency time.Duration
	cutNext int // bytes of answers that the next connection passes on; -1 for all
}

// link is one connection through a proxy.
type link struct {
	client, server net.Conn

	// Under Proxy.mu:
	left int  // bytes of answers until it is cut; -1 for all
	lost bool // bytes of it were swallowed: it can never be right again
}

// NewProxy listens on a port of its own for connections to target. Close it
// after use.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, listener: l, links: map[*link]bool{}, cutNext: -1}
	p.pumps.Go(p.accept)
	return p, nil
}

// Addr is where it listens, as host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Port is the port of Addr.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Reset ends all connections by RST.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		k.reset()
	}
}

// Swallow makes all connections half-open: they stay, new ones are taken, and
// what is written to either side goes nowhere. Swallow(false) ends those that lost
// something by RST, as a network does that is back.
func (p *Proxy) Swallow(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow = on
	for k := range p.links {
		if !on && k.lost {
			k.reset()
		}
	}
}

// Refuse ends all connections by RST, and each new one as soon as it is there, as
// where nobody listens. Refuse(false) ends that.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
	for k := range p.links {
		if on {
			k.reset()
		}
	}
}

// Latency delays what each side writes by d; 0 ends it.
func (p *Proxy) Latency(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency = d
}

// CutAnswers lets n more bytes of answers through on each connection that is
// open, and on the next one, and resets it then.
func (p *Proxy) CutAnswers(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutNext = n
	for k := range p.links {
		k.left = n
	}
}

// Heal ends everything that was told to last.
func (p *Proxy) Heal() {
	p.mu.Lock()
	p.latency, p.cutNext, p.refuse = 0, -1, false
	for k := range p.links {
		k.left = -1
	}
	p.mu.Unlock()
	p.Swallow(false)
}

// Close ends all connections and waits until nothing runs any more.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for k := range p.links {
		k.reset()
	}
	p.mu.Unlock()
	p.pumps.Wait()
	return err
}

// reset ends both sides; SetLinger makes it a RST.
func (k *link) reset() {
	for _, c := range []net.Conn{k.client, k.server} {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // or it is closed already
		}
		_ = c.Close()
	}
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.pumps.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		(&link{client: client, server: client}).reset()
		return
	}
	k := &link{client: client, server: server}
	p.mu.Lock()
	k.left, p.cutNext = p.cutNext, -1
	p.links[k] = true
	closed := p.closed || p.refuse
	p.mu.Unlock()
	if closed {
		k.reset()
	}
	var both sync.WaitGroup
	both.Go(func() { p.pump(k, client, server, false) })
	both.Go(func() { p.pump(k, server, client, true) })
	both.Wait()
	p.mu.Lock()
	delete(p.links, k)
	p.mu.Unlock()
}

// pump copies one direction until either side ends, and then ends both: nobody
// here closes half a connection.
func (p *Proxy) pump(k *link, from, to net.Conn, answers bool) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			pass, delay, cut := p.decide(k, n, answers)
			if delay > 0 {
				time.Sleep(delay)
			}
			if pass > 0 {
				if _, werr := to.Write(buf[:pass]); werr != nil {
					return
				}
			}
			if cut {
				k.reset()
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// decide says what becomes of n bytes that have just come.
func (p *Proxy) decide(k *link, n int, answers bool) (pass int, delay time.Duration, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.swallow || k.lost:
		k.lost = true
		return 0, 0, false
	case answers && k.left >= 0 && n >= k.left:
		return k.left, p.latency, true
	case answers && k.left >= 0:
		k.left -= n
	}
	return n, p.latency, false
}
