package admin

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// A remote address may fail this often in a window before it is told to wait.
const (
	maxFailures   = 10
	failureWindow = time.Minute
	maxRemembered = 10_000 // addresses; the longest unseen are forgotten first
)

// failures counts wrong keys by remote address: that of the connection, since
// anybody can write into a Forwarded header.
type failures struct {
	now func() time.Time

	mu     sync.Mutex
	order  *list.List // of *record, the last to fail in front
	byAddr map[netip.Prefix]*list.Element
}

type record struct {
	from  netip.Prefix
	since time.Time
	n     int
}

func newFailures() *failures {
	return &failures{now: time.Now, order: list.New(), byAddr: map[netip.Prefix]*list.Element{}}
}

// add counts one more failure of remote, an address with a port. It returns
// how many there were in this window, and how long the window lasts yet.
func (f *failures) add(remote string) (n int, wait time.Duration) {
	from := network(remote)
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	e, ok := f.byAddr[from]
	if !ok {
		e = f.order.PushFront(&record{from: from, since: now})
		f.byAddr[from] = e
		if f.order.Len() > maxRemembered {
			oldest := f.order.Back()
			delete(f.byAddr, f.order.Remove(oldest).(*record).from)
		}
	}
	f.order.MoveToFront(e)
	r := e.Value.(*record)
	if now.Sub(r.since) >= failureWindow {
		r.since, r.n = now, 0
	}
	r.n++
	return r.n, failureWindow - now.Sub(r.since)
}

// network is what one client can change its address within: one IPv4 address,
// or the /64 that an IPv6 host gets.
func network(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{} // all of them count as one
	}
	addr := ap.Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
