package httpsend

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"code.dny.dev/ssrf"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Addresses that nothing may reach unless it is told to.
var hostile = []string{
	// this machine
	"127.0.0.1", "127.0.0.2", "127.1.2.3", "127.255.255.254", "0.0.0.0", "0.1.2.3", "::1", "::",
	// private networks
	"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.255", "fc00::1", "fd12:3456::1", "fdff::1",
	// link-local, metadata services of the clouds
	"169.254.169.254", "169.254.170.2", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fe80::a9fe:a9fe", "fd00:ec2::254",
	"100.100.100.200", "192.0.0.192", "168.63.129.16",
	// carrier-grade NAT
	"100.64.0.1", "100.127.255.254",
	// IPv4 in IPv6, mapped
	"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "::ffff:168.63.129.16",
	// IPv4 in IPv6, compatible
	"::127.0.0.1", "::7f00:1", "::a00:1", "::a9fe:a9fe",
	// NAT64, 6to4, Teredo, ISATAP
	"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::", "2002:c0a8:1::1",
	"2001::1", "2001:0:7f00:1::", "fe80::5efe:7f00:1",
	// site-local, the discard prefix, ORCHID, documentation, segment routing
	"fec0::1", "100::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1", "5f00::1",
	// reserved, benchmarking, documentation, relays
	"192.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "198.19.255.255", "192.88.99.1", "192.31.196.1",
	"192.52.193.1", "192.175.48.1", "240.0.0.1", "255.255.255.255", "2620:4f:8000::1",
	// multicast
	"224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1",
}

var public = []string{"1.1.1.1", "8.8.8.8", "93.184.216.34", "168.63.129.17", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::200e"}

func control(g guard, addr string, port uint16) error {
	a := netip.MustParseAddr(addr)
	network := "tcp4"
	if a.Is6() {
		network = "tcp6"
	}
	return g.control(network, netip.AddrPortFrom(a, port).String(), nil)
}

func TestGuardRefuses(t *testing.T) {
	if len(hostile) < 60 {
		t.Fatalf("only %d addresses", len(hostile))
	}
	for _, addr := range hostile {
		for name, g := range map[string]guard{
			"https": {public: publicHTTPS},
			"http":  {public: publicHTTP},
			"none":  {},
			"else":  {public: publicHTTP, allow: prefixes("203.0.114.0/24", "2a00::/64")},
		} {
			if err := control(g, addr, 443); !errors.Is(err, ssrf.ErrProhibitedIP) {
				t.Errorf("%s over %s: %v, want it refused", addr, name, err)
			}
		}
	}
}

func TestGuardAllows(t *testing.T) {
	for _, addr := range public {
		for _, tt := range []struct {
			name string
			g    guard
			port uint16
			want error
		}{
			{"https", guard{public: publicHTTPS}, 443, nil},
			{"https on its second port", guard{public: publicHTTPS}, 8443, nil},
			{"https on the port of http", guard{public: publicHTTPS}, 80, ssrf.ErrProhibitedPort},
			{"https on the port of mail", guard{public: publicHTTPS}, 25, ssrf.ErrProhibitedPort},
			{"https on the port of Redis", guard{public: publicHTTPS}, 6379, ssrf.ErrProhibitedPort},
			{"http", guard{public: publicHTTP}, 80, nil},
			{"http on the port of SSH", guard{public: publicHTTP}, 22, ssrf.ErrProhibitedPort},
			{"http where it is off", guard{}, 80, ssrf.ErrProhibitedIP},
			{"any port of an allowed network", guard{allow: prefixes("0.0.0.0/0", "::/0")}, 25, nil},
		} {
			if err := control(tt.g, addr, tt.port); !errors.Is(err, tt.want) {
				t.Errorf("%s, %s: %v, want %v", addr, tt.name, err, tt.want)
			}
		}
	}
	lan := guard{public: publicHTTPS, allow: prefixes("10.1.0.0/16", "fd00::/8")}
	for addr, want := range map[string]error{
		"10.1.2.3": nil, "::ffff:10.1.2.3": nil, "fd12::1": nil,
		"10.2.0.1": ssrf.ErrProhibitedIP, "127.0.0.1": ssrf.ErrProhibitedIP, "fe80::1": ssrf.ErrProhibitedIP,
	} {
		if err := control(lan, addr, 443); !errors.Is(err, want) {
			t.Errorf("%s with the LAN allowed: %v, want %v", addr, err, want)
		}
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range texts {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// FuzzGuard holds the guard against what package netip knows of addresses.
func FuzzGuard(f *testing.F) {
	for _, addr := range append(hostile, public...) {
		f.Add(netip.MustParseAddr(addr).AsSlice())
	}
	embedded := prefixes("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4")
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, ok := netip.AddrFromSlice(raw)
		if !ok || control(guard{public: publicHTTP}, a.String(), 443) != nil {
			return
		}
		u := a.Unmap()
		if !u.IsGlobalUnicast() || u.IsPrivate() || u.IsLoopback() || u.IsLinkLocalUnicast() || a.Is4In6() {
			t.Errorf("%s is let through", a)
		}
		for _, p := range embedded {
			if p.Contains(u) {
				t.Errorf("%s of %s is let through", a, p)
			}
		}
	})
}

// loopback is a listener that counts who comes.
func loopback(t *testing.T, addr string) (port string, came *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("cannot listen on %s: %v", addr, err)
	}
	t.Cleanup(func() { l.Close() })
	came = new(atomic.Int32)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			c.Close()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, came
}

// Every way to write this machine into a URL, with a server there that must
// never hear of it.
func TestReachNothingInside(t *testing.T) {
	port, came := loopback(t, "127.0.0.1:0")
	dns := &fakeDNS{answer: func(string) []netip.Addr { return nil }}
	c := Reach{AllowHTTP: true, resolver: dns.resolver()}.Client()
	literals := map[string]bool{}
	for _, a := range hostile {
		if strings.Contains(a, "%") {
			continue
		}
		host := a
		if strings.Contains(a, ":") {
			host = "[" + a + "]"
		}
		literals[host] = true
	}
	hosts := []string{
		"localhost", "LOCALHOST", "localhost.", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1",
		"127.0.0.1.", "127.000.000.001", "0", "0x0", "3232235521", "0xa9fea9fe", "2852039166", "169.254.43518", "metadata.google.internal",
		"127.0.0.1.nip.io", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[0000::1]", "[::ffff:127.0.0.1]",
	}
	for h := range literals {
		hosts = append(hosts, h)
	}
	var wg sync.WaitGroup
	for _, host := range hosts {
		for _, u := range []string{"http://" + host + ":" + port + "/", "https://" + host + ":" + port + "/", "http://" + host + "/"} {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				for _, body := range []string{"{}", ""} {
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, strings.NewReader(body))
					if err != nil {
						t.Error(err)
						continue
					}
					_, e := Do(c, dispatch.ChannelWebhook, req, 0)
					switch {
					case e == nil:
						t.Errorf("%s: answered", u)
					case e.Kind == dispatch.Rejected, !literals[host] && e.Kind == dispatch.Down: // a name that does not resolve
					default:
						t.Errorf("%s: %v, want rejected", u, e)
					}
				}
			})
		}
	}
	wg.Wait()
	if n := came.Load(); n != 0 {
		t.Errorf("%d connections reached 127.0.0.1", n)
	}
}

func TestReachAgainstRebinding(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(receiver.URL, "http://"))
	_, came := loopback(t, "127.0.0.2:"+port) // what a rebinding name is after

	var answer []netip.Addr
	dns := &fakeDNS{answer: func(string) []netip.Addr { return answer }}
	c := Reach{AllowCIDRs: prefixes("127.0.0.1/32"), resolver: dns.resolver()}.Client()
	for _, tt := range []struct {
		addrs []string
		want  dispatch.Kind // "" means taken
	}{
		{[]string{"127.0.0.1"}, ""},
		{[]string{"127.0.0.2"}, dispatch.Rejected},
		{[]string{"169.254.169.254"}, dispatch.Rejected},
		{[]string{"::1"}, dispatch.Rejected},
		{[]string{"::ffff:127.0.0.2"}, dispatch.Rejected},
		{[]string{"64:ff9b::7f00:2"}, dispatch.Rejected},
		{[]string{"127.0.0.2", "169.254.169.254"}, dispatch.Rejected},
		{[]string{"127.0.0.2", "127.0.0.1"}, ""}, // each address is looked at by itself
		{[]string{"127.0.0.1", "127.0.0.2"}, ""},
		{[]string{"127.0.0.2"}, dispatch.Rejected},
	} {
		c.CloseIdleConnections()
		answer = nil
		for _, a := range tt.addrs {
			answer = append(answer, netip.MustParseAddr(a))
		}
		_, e := Do(c, dispatch.ChannelWebhook, post(t, t.Context(), "http://rebind.example:"+port+"/hook"), 0)
		switch {
		case tt.want == "" && e != nil:
			t.Errorf("%s: %v", tt.addrs, e)
		case tt.want != "" && (e == nil || e.Kind != tt.want):
			t.Errorf("%s: %v, want %s", tt.addrs, e, tt.want)
		case e != nil:
			for _, a := range tt.addrs {
				if strings.Contains(e.Error(), a) {
					t.Errorf("the error tells what the name resolves to: %v", e)
				}
			}
		}
	}
	if n := came.Load(); n != 0 {
		t.Errorf("%d connections reached 127.0.0.2", n)
	}
}

func TestReachOverTLS(t *testing.T) {
	for _, tt := range []struct {
		body  string
		major int // of the version with a server that speaks both
	}{{"{}", 2}, {"", 1}} {
		for _, h2 := range []bool{false, true} {
			want := 1
			if h2 {
				want = tt.major
			}
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got, _ := io.ReadAll(r.Body); r.ProtoMajor != want || string(got) != tt.body {
					t.Errorf("body %q: %q came over %s, want version %d", tt.body, got, r.Proto, want)
				}
			}))
			srv.EnableHTTP2 = h2
			srv.Config.ErrorLog = log.New(io.Discard, "", 0)
			srv.StartTLS()
			defer srv.Close()
			local := prefixes("127.0.0.0/8")
			request := func() *http.Request {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, srv.URL, strings.NewReader(tt.body))
				if err != nil {
					t.Fatal(err)
				}
				return req
			}
			if _, e := Do(Reach{AllowCIDRs: local}.Client(), dispatch.ChannelHTTP, request(), 0); e == nil || e.Kind != dispatch.Down {
				t.Errorf("a certificate of nobody we know: %v, want down", e)
			}
			c := Reach{AllowCIDRs: local, roots: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}.Client()
			if _, e := Do(c, dispatch.ChannelHTTP, request(), 0); e != nil {
				t.Errorf("HTTP/2 %t: %v", h2, e)
			}
			c.CloseIdleConnections()
		}
	}
}

// Whatever the method and headers, a server that takes a request and closes
// the connection gets it once.
func TestReachSendsOnceOnDeadKeepAlive(t *testing.T) {
	for _, tt := range []struct {
		method, body, header string
	}{
		{"GET", "", ""},
		{"GET", "", "Idempotency-Key"},
		{"DELETE", "", "Idempotency-Key"},
		{"POST", "", "Idempotency-Key"},
		{"POST", "", "X-Idempotency-Key"},
		{"POST", "{}", "Idempotency-Key"},
		{"PUT", "{}", "X-Idempotency-Key"},
	} {
		t.Run(tt.method+" "+tt.body+" "+tt.header, func(t *testing.T) {
			var taken, keys atomic.Int32
			url := raw(t, func(c net.Conn, r *bufio.Reader) {
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					if tt.header != "" && req.Header.Get(tt.header) == "k" {
						keys.Add(1)
					}
					if taken.Add(1) > 3 { // three warm it up, whatever is kept
						c.(*net.TCPConn).SetLinger(0)
						return
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			c := Reach{AllowCIDRs: prefixes("127.0.0.0/8")}.Client()
			defer c.CloseIdleConnections()
			for n := range 4 {
				req, err := http.NewRequestWithContext(t.Context(), tt.method, url, strings.NewReader(tt.body))
				if err != nil {
					t.Fatal(err)
				}
				if tt.header != "" {
					req.Header.Set(tt.header, "k")
				}
				_, e := Do(c, dispatch.ChannelHTTP, req, 0)
				if n < 3 && e != nil {
					t.Fatal(e)
				}
				if n == 3 && (e == nil || e.Kind != dispatch.Unknown) {
					t.Errorf("Do = %v, want unknown", e)
				}
			}
			if taken.Load() != 4 {
				t.Errorf("taken %d times, want 4", taken.Load())
			}
			if tt.header != "" && keys.Load() != 4 {
				t.Errorf("%s came %d times, want 4", tt.header, keys.Load())
			}
		})
	}
}

// fakeDNS answers every question for A and AAAA with what answer returns.
type fakeDNS struct {
	answer func(name string) []netip.Addr
}

func (d *fakeDNS) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe() // a stream: messages follow their length
		go d.serve(theirs)
		return ours, nil
	}}
}

func (d *fakeDNS) serve(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		reply := d.reply(query)
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

func (d *fakeDNS) reply(query []byte) []byte {
	const header = 12
	var labels []string
	end := header
	for query[end] != 0 {
		n := int(query[end])
		labels = append(labels, string(query[end+1:end+1+n]))
		end += 1 + n
	}
	end += 1 + 4 // root label, type, class
	qtype := binary.BigEndian.Uint16(query[end-4:])

	var records []byte
	count := uint16(0)
	addrs := d.answer(strings.Join(labels, "."))
	for _, a := range addrs {
		typ := uint16(28)
		if a.Is4() {
			typ = 1
		}
		if typ != qtype {
			continue
		}
		count++
		records = append(records, 0xc0, header) // the name of the question
		records = binary.BigEndian.AppendUint16(records, typ)
		records = append(records, 0, 1, 0, 0, 0, 0) // class IN, TTL 0
		records = binary.BigEndian.AppendUint16(records, uint16(a.BitLen()/8))
		records = append(records, a.AsSlice()...)
	}
	flags := uint16(0x8180)
	if len(addrs) == 0 {
		flags |= 3 // no such name
	}
	reply := append([]byte(nil), query[:2]...)
	for _, n := range []uint16{flags, 1, count, 0, 0} {
		reply = binary.BigEndian.AppendUint16(reply, n)
	}
	return append(append(reply, query[header:end]...), records...)
}
