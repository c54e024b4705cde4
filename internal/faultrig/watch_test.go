//go:build unix

package faultrig

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestSlowStart: a process that says nothing for a quarter of the lease stands for a machine that stood still; one that says something
// does not, however long it takes for the rest.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script string
		lease        time.Duration
		slow         int
	}{
		{"slow", "sleep 0.2; echo starting >&2", 400 * time.Millisecond, 1},
		{"slow afterwards", "echo starting >&2; sleep 0.2; echo ready >&2", 4 * time.Minute, 0},
		{"fast", "echo starting >&2", 4 * time.Minute, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			program := filepath.Join(t.TempDir(), "program")
			if err := os.WriteFile(program, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			d := &daemon{program: program, dir: t.TempDir(), log: io.Discard, faults: &faults{}, lease: tt.lease, retired: true,
				env: func(string) []string { return surroundings() }}
			d.mu.Lock()
			err := d.start("")
			for errors.Is(err, syscall.ETXTBSY) { // another process of this test was begun while that was written
				err = d.start("")
			}
			d.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			d.tasks.Wait()
			n := 0
			for _, f := range d.faults.list {
				if f.Kind == Slow && f.To.Sub(f.From) >= tt.lease/4 {
					n++
				}
			}
			if n != tt.slow {
				t.Errorf("%d times too slow, want %d: %+v", n, tt.slow, d.faults.list)
			}
		})
	}
}
