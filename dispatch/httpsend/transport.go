package httpsend

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// MaxConns is the most connections to one host at once. A policy has no more attempts there
// at once: they would wait for a connection with a worker in hand.
const MaxConns = 64

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
		MaxIdleConnsPerHost:    MaxConns, // a kept one that is closed is a handshake more
		MaxConnsPerHost:        MaxConns,
		IdleConnTimeout:        50 * time.Second, // below the 60 s after which many balancers hang up
		MaxResponseHeaderBytes: 64 << 10,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 15 * time.Second, // finds connections that died without a word
			PingTimeout:     10 * time.Second,
		},
	}
}
