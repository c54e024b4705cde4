//go:build unix

package faultrig

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// echo is a server that answers what it is sent.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // until the client has enough
			}()
		}
	}()
	return l.Addr().String()
}

func TestProxy(t *testing.T) {
	p, err := NewProxy(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	// say sends a word and returns what comes back of it within a while.
	say := func(c net.Conn, word string) (string, error) {
		t.Helper()
		_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond)) // a closed one says so below
		if _, err := io.WriteString(c, word); err != nil {
			return "", err
		}
		buf := make([]byte, len(word))
		n, err := io.ReadFull(c, buf)
		return string(buf[:n]), err
	}

	c := dial()
	if got, err := say(c, "hello"); got != "hello" {
		t.Errorf("passed on: %q, %v", got, err)
	}
	p.Latency(50 * time.Millisecond)
	begun := time.Now()
	if got, err := say(c, "slow"); got != "slow" || time.Since(begun) < 100*time.Millisecond {
		t.Errorf("with latency: %q, %v after %s", got, err, time.Since(begun))
	}
	p.Heal()
	p.CutAnswers(3)
	if got, err := say(c, "hello"); got != "hel" || !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut after three bytes: %q, %v", got, err)
	}
	p.Heal()
	c = dial()
	p.Swallow(true)
	if got, err := say(c, "hello"); got != "" || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("half-open: %q, %v", got, err)
	}
	p.Swallow(false)
	if got, err := say(c, "hello"); got != "" || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after what was swallowed: %q, %v", got, err)
	}
	c = dial()
	if got, err := say(c, "hello"); got != "hello" {
		t.Errorf("a new one: %q, %v", got, err)
	}
	p.Reset()
	if got, err := say(c, "hello"); got != "" || err == nil {
		t.Errorf("after a reset: %q, %v", got, err)
	}
}
