//go:build unix

package faultrig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// clockEnv makes the test binary print what time it is.
const clockEnv = "FAULTRIG_CLOCK"

// printClock prints the wall clock, and how long 20 ms take on the monotonic one.
func printClock() int {
	begun := time.Now()
	time.Sleep(20 * time.Millisecond)
	took := time.Since(begun)
	os.Stdout.WriteString(time.Now().Format(time.RFC3339Nano) + " " + took.String() + "\n")
	return 0
}

// TestShiftClock: a process with a shifted clock has another time of day, and seconds
// that are as long as ours.
func TestShiftClock(t *testing.T) {
	if !canShiftClocks {
		t.Skip("no process can be given another clock on this platform")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range []time.Duration{time.Hour, -time.Hour, 0} {
		out := make(chan string, 1)
		go func() {
			runtime.LockOSThread() // it is traced by the thread that starts it
			defer runtime.UnlockOSThread()
			var text strings.Builder
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), clockEnv+"=1")
			cmd.Stdout, cmd.Stderr = &text, &text
			beforeShift(cmd)
			if err := cmd.Start(); err != nil {
				out <- err.Error()
				return
			}
			if err := shiftClock(cmd.Process.Pid, by); err != nil {
				text.WriteString(err.Error())
			}
			_ = cmd.Wait() // what it printed says how it ended
			out <- text.String()
		}()
		said := <-out
		wall, took, _ := strings.Cut(strings.TrimSpace(said), " ")
		at, err := time.Parse(time.RFC3339Nano, wall)
		if err != nil {
			t.Fatalf("by %s: %s", by, said)
		}
		if off := time.Until(at); off < by-time.Minute || off > by+time.Minute {
			t.Errorf("by %s: its clock is %s off", by, off)
		}
		if d, err := time.ParseDuration(took); err != nil || d < 20*time.Millisecond || d > 10*time.Second {
			t.Errorf("by %s: 20 ms take %s", by, took)
		}
	}
}

// laterRoutes has a webhook wait for two seconds by the database's clock.
const laterRoutes = `version: 1
routes:
  - name: later
    event: told.later
    deliver:
      - name: tell
        at: now + 2s
        webhook: {url: '{{.payload.url}}', json: {}}
`

// TestClockOfHost: a host whose clock is an hour off sends what is for later when the
// database says that it is time, and what failed again, and nothing of its own clock
// is on record. TestFaults has hosts with three clocks in one run.
func TestClockOfHost(t *testing.T) {
	t.Parallel()
	if !canShiftClocks {
		t.Skip("no process can be given another clock on this platform")
	}
	all := newWorlds(t)
	w := all.get(t)
	t.Cleanup(func() { all.put(w) })
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			t.Parallel()
			routes := filepath.Join(t.TempDir(), "routes.yaml")
			if err := os.WriteFile(routes, []byte(laterRoutes), 0o600); err != nil {
				t.Fatal(err)
			}
			l := newLane(t, w, laneConfig{daemons: 1, lease: 3 * time.Second, poll: 200 * time.Millisecond, grace: time.Second,
				skew: by, more: []string{"OUTBOX_ROUTES=" + routes}})
			arrived := l.hook.expect(false)
			begun := time.Now()
			if _, err := l.pool.Exec(t.Context(), `insert into outbox_events (type, payload) values ('told.later', jsonb_build_object('url', $1::text))`, l.hook.url); err != nil {
				t.Fatal(err)
			}
			if took := l.await(t, arrived, "webhook that was for later").Sub(begun); took < 2*time.Second || took > 2*time.Second+allowance {
				t.Errorf("it was for two seconds later, and came after %s", took)
			}
			if _, err := l.insert(t.Context(), 20); err != nil {
				t.Fatal(err)
			}
			if err := l.processed(t.Context()); err != nil {
				t.Error(err)
			}
			rows, err := (&run{pool: l.pool}).strange(t.Context())
			if err != nil || len(rows) > 0 {
				t.Error(fmt.Sprintf("%d times are not the database's: ", len(rows)), rows, err)
			}
		})
	}
}
