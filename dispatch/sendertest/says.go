package sendertest

import (
	"io"
	"net/http"
	"strings"
)

// Says answers each request alike, without a network.
type Says struct {
	Status int
	Header http.Header
	Body   string
}

// RoundTrip implements http.RoundTripper.
func (s Says) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: s.Status, Header: s.Header.Clone(), Request: req,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(strings.NewReader(s.Body)), ContentLength: -1,
	}, nil
}
