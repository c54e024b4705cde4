package main

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// How a log that is not read is dealt with.
const (
	logRoom  = 4 << 20         // bytes that may wait: a second or two of the busiest listener
	logPiece = 64 << 10        // bytes that are written at once; what a pipe takes
	logStall = time.Second     // without any progress, after which lines are dropped
	logGrace = 2 * time.Second // for what waits when the program ends
)

// logQueue stands between what logs and where lines go. A reader that is slow slows
// the program down, as it would without; one that does not read at all (a pipe whose
// other end is stopped, a terminal after Ctrl-S) does so for logStall. Lines are then
// dropped and counted until it reads again: no delivery waits for it.
type logQueue struct {
	to      io.Writer
	dropped func(lines int) // is told when lines are written again

	mu      sync.Mutex
	waiting []byte        // whole lines
	lost    int           // lines dropped and not told of
	stalled bool          // nothing was read for logStall
	room    chan struct{} // closed when some was
	more    chan struct{} // of room for one: something waits
	closing bool
	done    chan struct{}
}

// newLogQueue returns a queue that writes to w. It is to be closed.
func newLogQueue(w io.Writer) *logQueue {
	q := &logQueue{to: w, room: make(chan struct{}), more: make(chan struct{}, 1), done: make(chan struct{}), dropped: func(int) {}}
	go q.run()
	return q
}

// Write implements io.Writer: one call is one line. It never fails, since nobody could
// do anything about it.
func (q *logQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) > 0 && len(q.waiting)+len(line) > logRoom {
		if q.stalled {
			q.lost++
			return len(line), nil
		}
		room := q.room
		q.mu.Unlock()
		late := time.NewTimer(logStall)
		select {
		case <-room:
		case <-late.C:
		}
		late.Stop()
		q.mu.Lock()
		q.stalled = q.stalled || room == q.room
	}
	q.waiting = append(q.waiting, line...)
	q.signal()
	return len(line), nil
}

func (q *logQueue) signal() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// run writes what waits, until the queue is closed and empty.
func (q *logQueue) run() {
	defer close(q.done)
	var piece []byte
	for range q.more {
		for {
			q.mu.Lock()
			n := whole(q.waiting)
			piece = append(piece[:0], q.waiting[:n]...)
			switch {
			case n < len(q.waiting):
				q.waiting = q.waiting[n:]
			case cap(q.waiting) > logPiece:
				q.waiting = nil // it may have grown to logRoom
			default:
				q.waiting = q.waiting[:0]
			}
			end := q.closing
			q.mu.Unlock()
			if n == 0 {
				if end {
					return
				}
				break
			}
			_, _ = q.to.Write(piece) // a log that cannot be written is no reason to stop
			if lost := q.progress(); lost > 0 {
				go q.dropped(lost) // it writes here, and may have to wait
			}
		}
	}
}

// whole returns how much of waiting is to be written at once: lines that are whole,
// unless one is longer than logPiece.
func whole(waiting []byte) int {
	if len(waiting) <= logPiece {
		return len(waiting)
	}
	if n := bytes.LastIndexByte(waiting[:logPiece], '\n'); n >= 0 {
		return n + 1
	}
	return logPiece
}

// progress notes that some was written, and returns how many lines were dropped before
// that.
func (q *logQueue) progress() (lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lost, q.lost = q.lost, 0
	q.stalled = false
	close(q.room)
	q.room = make(chan struct{})
	return lost
}

// close waits until all is written, for a while.
func (q *logQueue) close() {
	q.mu.Lock()
	q.closing = true
	q.mu.Unlock()
	q.signal()
	select {
	case <-q.done:
	case <-time.After(logGrace):
	}
}

// behind is where the lines that are written to w go in the end.
func behind(w io.Writer) io.Writer {
	if q, ok := w.(*logQueue); ok {
		return q.to
	}
	return w
}
