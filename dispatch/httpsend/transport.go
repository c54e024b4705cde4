package httpsend

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// NewTransport returns a transport fit for senders: no proxy from the
// environment, no decompression, bounded headers, TLS 1.2 or newer, HTTP/2
// where the other side has it. dial opens the connections; nil means a
// net.Dialer with a timeout of 10 s.
func NewTransport(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	}
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    64, // as many as there may be: a kept one that is closed is a handshake more
		MaxConnsPerHost:        64,
		IdleConnTimeout:        50 * time.Second, // below the 60 s after which many balancers hang up
		MaxResponseHeaderBytes: 64 << 10,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 15 * time.Second, // finds connections that died without a word
			PingTimeout:     10 * time.Second,
		},
	}
}
