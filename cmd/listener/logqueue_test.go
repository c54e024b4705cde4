package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// reader is the other end of a log: while it is stopped, whoever writes waits.
type reader struct {
	reads chan struct{} // has one while it reads; no mutex, whose waiters hold up a fake clock
	got   bytes.Buffer
}

func (r *reader) Write(p []byte) (int, error) {
	<-r.reads
	defer func() { r.reads <- struct{}{} }()
	return r.got.Write(p)
}

// TestLogQueue: lines arrive whole and in order; a reader that stops costs a second
// and the lines for which there is no room, and then it hears how many.
func TestLogQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{reads: make(chan struct{}, 1)}
		r.reads <- struct{}{}
		q := newLogQueue(r)
		told := 0
		q.dropped = func(n int) { told += n }
		line := strings.Repeat("x", 1000)
		write := func(n int) { fmt.Fprintf(q, "%d %s\n", n, line) }
		write(0)
		synctest.Wait()
		if got := r.got.String(); got != "0 "+line+"\n" {
			t.Fatalf("%d bytes are written, want one line", len(got))
		}
		r.got.Reset()

		<-r.reads
		stopped := time.Now()
		const lines = 10_000 // twice what there is room for
		for n := range lines {
			write(n)
		}
		if took := time.Since(stopped); took < logStall || took > 2*logStall {
			t.Errorf("10,000 lines nobody reads took %s", took)
		}
		r.reads <- struct{}{}
		synctest.Wait()
		q.close()
		got := strings.Split(strings.TrimSuffix(r.got.String(), "\n"), "\n")
		for n, text := range got {
			if text != fmt.Sprintf("%d %s", n, line) {
				t.Fatalf("line %d is %.20q", n, text)
			}
		}
		if told == 0 || told+len(got) != lines {
			t.Errorf("%d lines are written and %d dropped, of %d", len(got), told, lines)
		}
	})
}

// TestLogQueueIsSlow: a reader that is only slow gets every line.
func TestLogQueueIsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got int
		in, out := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			buf := make([]byte, 100_000)
			for {
				n, err := in.Read(buf)
				got += bytes.Count(buf[:n], []byte("\n"))
				if err != nil {
					return
				}
				time.Sleep(900 * time.Millisecond) // of the fake clock
			}
		}()
		q := newLogQueue(out)
		q.dropped = func(n int) { t.Errorf("%d lines are dropped", n) }
		const lines = 10_000
		for range lines {
			fmt.Fprintln(q, strings.Repeat("x", 1000))
		}
		for q.left() > 0 {
			time.Sleep(time.Second)
		}
		q.close()
		out.Close()
		<-done
		if got != lines {
			t.Errorf("%d lines of %d", got, lines)
		}
	})
}

// left is how much waits.
func (q *logQueue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}
