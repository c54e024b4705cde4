package httpsend

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// Reach says which addresses may be called. The zero value reaches public
// addresses by https on the ports 443 and 8443, and nothing else.
type Reach struct {
	// AllowCIDRs are networks that may be called although they are private,
	// loopback or otherwise reserved. In them every port is open, and plain
	// http. Networks with NAT64 need 64:ff9b::/96 here.
	AllowCIDRs []netip.Prefix

	// AllowHTTP allows plain http to public addresses too, on port 80.
	AllowHTTP bool

	resolver *net.Resolver  // for tests; nil means the system's
	roots    *x509.CertPool // for tests; nil means the system's
}

// Client returns a client that dials only what r allows, follows no redirect,
// and hands each request to the network once. A request without a body goes by
// HTTP/1.1 over a connection of its own: over one that is kept, net/http sends a
// GET, and all that has an idempotency header, again when the connection dies.
func (r Reach) Client() *http.Client {
	overHTTPS := guard{allow: r.AllowCIDRs, public: publicHTTPS}
	overHTTP := guard{allow: r.AllowCIDRs}
	if r.AllowHTTP {
		overHTTP.public = publicHTTP
	}
	return &http.Client{CheckRedirect: useLast, Transport: &guarded{
		https: r.transport(overHTTPS), http: r.transport(overHTTP),
		httpsAlone: alone(r.transport(overHTTPS)), httpAlone: alone(r.transport(overHTTP)),
		plain: r.AllowHTTP,
	}}
}

func (r Reach) transport(g guard) *http.Transport {
	dialer := &net.Dialer{
		Timeout:   5 * time.Second,
		KeepAlive: 15 * time.Second,
		Resolver:  r.resolver,
		Control:   g.control,
	}
	t := NewTransport(dialer.DialContext)
	t.TLSClientConfig.RootCAs = r.roots
	return t
}

// alone makes t use each connection for one request.
func alone(t *http.Transport) *http.Transport {
	t.DisableKeepAlives = true
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	return t
}

// guarded sends each request over the transport that it may use.
type guarded struct {
	https, http           *http.Transport // http reaches less: see Reach
	httpsAlone, httpAlone *http.Transport
	plain                 bool // AllowHTTP
}

// RoundTrip implements http.RoundTripper.
func (g *guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	kept, single := g.https, g.httpsAlone
	if req.URL.Scheme == "http" {
		kept, single = g.http, g.httpAlone
	}
	if req.Body == nil || req.Body == http.NoBody {
		kept = single
	}
	res, err := kept.RoundTrip(req)
	if err != nil && refused(err) {
		why := "the address is private or reserved, or the port is none of those that are open (OUTBOX_WEBHOOK_ALLOW_CIDRS)"
		if req.URL.Scheme == "http" && !g.plain {
			why = "plain http is not allowed to this address (OUTBOX_WEBHOOK_ALLOW_CIDRS for a private one)"
		}
		err = &cause{text: "not called: " + why, err: err}
	}
	return res, err
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (g *guarded) CloseIdleConnections() {
	for _, t := range []*http.Transport{g.https, g.http, g.httpsAlone, g.httpAlone} {
		t.CloseIdleConnections()
	}
}

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
