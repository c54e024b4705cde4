package bench

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A sink receives POSTs and does next to nothing with them, since it shares
// the machine with what is measured. It speaks as much of HTTP/1.1 as a client
// with keep-alive needs and answers 204 to everything.
//
// It notes when the first byte of each request came, by the number that the
// body has under "n".
type sink struct {
	delay time.Duration // before each answer
	hang  bool          // never answer

	listener net.Listener
	conns    sync.Map       // of net.Conn, those that are open
	serving  sync.WaitGroup // one for each of them, and one for accepting

	at       []atomic.Int64 // Unix nanoseconds of the first arrival, by number; 0: none
	distinct atomic.Int64   // numbers that arrived
	again    atomic.Int64   // requests whose number had arrived before
	other    atomic.Int64   // requests without a number that is expected
	C        chan int       // gets each number, at its first arrival; nil for none
}

// arrivals makes room for the numbers from 0 to n-1.
func arrivals(n int) []atomic.Int64 { return make([]atomic.Int64, n) }

// newSink starts a sink for the numbers from 0 to n-1. Close it after use.
func newSink(n int) (*sink, error) { return startSink(&sink{at: arrivals(n)}) }

// startSink starts one whose fields are set.
func startSink(s *sink) (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.listener = l
	s.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Store(c, nil)
			s.serving.Go(func() {
				defer s.conns.Delete(c)
				defer c.Close()
				_ = s.serve(c) // a client that goes away is no matter
			})
		}
	})
	return s, nil
}

// url is where to send to.
func (s *sink) url() string { return "http://" + s.listener.Addr().String() + "/" }

// close ends all connections.
func (s *sink) close() {
	s.listener.Close()
	for {
		s.conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		done := make(chan struct{})
		go func() { s.serving.Wait(); close(done) }()
		select {
		case <-done:
			return
		case <-time.After(10 * time.Millisecond): // one was just accepted
		}
	}
}

// arrived returns when number n came first; the zero time when it has not.
func (s *sink) arrived(n int) time.Time {
	if at := s.at[n].Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

var answer = []byte("HTTP/1.1 204 No Content\r\n\r\n")

func (s *sink) serve(c net.Conn) error {
	r := bufio.NewReaderSize(c, 8<<10)
	var body []byte
	for {
		if _, err := r.Peek(1); err != nil {
			return err
		}
		at := time.Now()
		length, err := readHead(r)
		if err != nil {
			return err
		}
		if cap(body) < length {
			body = make([]byte, length)
		}
		body = body[:length]
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		s.note(body, at)
		if s.hang {
			_, err := r.Peek(1) // until the client gives up
			return err
		}
		if s.delay > 0 {
			time.Sleep(s.delay)
		}
		if _, err := c.Write(answer); err != nil {
			return err
		}
	}
}

// note keeps one arrival.
func (s *sink) note(body []byte, at time.Time) {
	n, ok := numberIn(body)
	switch {
	case !ok || n >= len(s.at):
		s.other.Add(1)
	case s.at[n].CompareAndSwap(0, at.UnixNano()):
		s.distinct.Add(1)
		if s.C != nil {
			s.C <- n
		}
	default:
		s.again.Add(1)
	}
}

var (
	contentLength = []byte("content-length:")
	chunked       = []byte("transfer-encoding:")

	errBadRequest = errors.New("not a request with a content length")
)

// readHead reads up to the end of the headers and returns the body's length.
func readHead(r *bufio.Reader) (length int, err error) {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case len(line) == 0:
			return length, nil
		case hasPrefixFold(line, contentLength):
			length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):])))
			if err != nil || length < 0 || length > 16<<20 {
				return 0, errBadRequest
			}
		case hasPrefixFold(line, chunked):
			return 0, errBadRequest
		}
	}
}

func hasPrefixFold(line, prefix []byte) bool {
	return len(line) >= len(prefix) && bytes.EqualFold(line[:len(prefix)], prefix)
}

// numberIn finds the number under the key "n" in a JSON text.
func numberIn(body []byte) (n int, ok bool) {
	_, rest, ok := bytes.Cut(body, []byte(`"n":`))
	if !ok {
		return 0, false
	}
	rest = bytes.TrimLeft(rest, " ")
	i := 0
	for i < len(rest) && i < 18 && rest[i] >= '0' && rest[i] <= '9' {
		n = n*10 + int(rest[i]-'0')
		i++
	}
	return n, i > 0
}
