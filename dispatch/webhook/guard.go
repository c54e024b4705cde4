package webhook

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"code.dny.dev/ssrf"

	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
)

// Which public addresses may be called: none that the IANA registries reserve
// for private, local or special use, and only on the usual ports.
var (
	publicHTTPS = ssrf.New(notAzure, ssrf.WithPorts(443, 8443))
	publicHTTP  = ssrf.New(notAzure, ssrf.WithPorts(80, 443, 8443))

	// The one metadata address that lies in public space.
	notAzure = ssrf.WithDeniedV4Prefixes(netip.MustParsePrefix("168.63.129.16/32"))
)

// guard decides about each address right before it is dialed. By then names
// have been resolved, so that a name cannot mean one address to a check and
// another to the connection.
type guard struct {
	allow  []netip.Prefix // open on every port
	public *ssrf.Guardian // decides about all others; nil closes them
}

// control is a net.Dialer's Control.
func (g guard) control(network, address string, c syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return ssrf.ErrInvalidHostPort
	}
	addr := to.Addr().Unmap().WithZone("")
	for _, p := range g.allow {
		if p.Contains(addr) {
			return nil
		}
	}
	if g.public == nil {
		return fmt.Errorf("%w: not among the allowed networks", ssrf.ErrProhibitedIP)
	}
	return g.public.Safe(network, address, c)
}

// client returns a client that dials only what g lets it. A nil resolver is
// the system's.
func client(g guard, resolver *net.Resolver) *http.Client {
	dialer := &net.Dialer{
		Timeout:   5 * time.Second,
		KeepAlive: 15 * time.Second,
		Resolver:  resolver,
		Control:   g.control,
	}
	return &http.Client{Transport: httpsend.NewTransport(dialer.DialContext)}
}
