//go:build unix

package faultrig

import (
	"sync"
	"time"
)

// Fault is one that happened.
type Fault struct {
	Kind     Kind
	What     string // to whom, and how
	Daemon   int    // to whom alone; Everyone where it is not about one
	Channel  string // whose provider alone; "" where it is not about one
	From, To time.Time
}

// Everyone is Fault.Daemon where it came upon all of them.
const Everyone = -1

// faults are those of a run.
type faults struct {
	mu   sync.Mutex
	list []Fault
	open int
}

func (f *faults) note(one Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, one)
}

// begin notes one that lasts until the returned function is called.
func (f *faults) begin(one Fault) (done func()) {
	one.From = time.Now()
	f.mu.Lock()
	f.open++
	f.mu.Unlock()
	return func() {
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
		one.To = time.Now()
		f.note(one)
	}
}

// last returns when the last fault ended that somebody made, and whether one
// lasts still.
func (f *faults) last() (end time.Time, open bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.list {
		if one.Kind != Slow && one.To.After(end) {
			end = one.To
		}
	}
	return end, f.open > 0
}

func (f *faults) all() []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Fault(nil), f.list...)
}
