//go:build unix

package faultrig

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// daemon is a place for a listener: one process after the other, each of which
// takes up what the last one left.
type daemon struct {
	number  int
	dir     string // working directory
	program string
	env     func(name string) []string // of a process by its name
	log     io.Writer
	faults  *faults
	lease   time.Duration
	skew    time.Duration // by how much its wall clock is off

	mu      sync.Mutex
	cmd     *exec.Cmd
	ended   chan struct{} // closed once the process has ended
	asked   *atomic.Bool  // a failpoint ends the process
	out     *prefixed     // what it says
	count   int           // processes so far
	crashes []string      // of those, what nobody asked for
	retired bool          // nothing is to be started any more
	tasks   sync.WaitGroup
}

// start runs a process with this OUTBOX_FAILPOINT. The caller holds d.mu.
func (d *daemon) start(failpoint string) error {
	d.count++
	name := fmt.Sprintf("d%d.%d", d.number, d.count)
	cmd := exec.Command(d.program)
	cmd.Dir = d.dir
	cmd.Env = d.env(name)
	if failpoint != "" {
		cmd.Env = append(cmd.Env, "OUTBOX_FAILPOINT="+failpoint)
	}
	begun := time.Now()
	out := &prefixed{to: d.log, prefix: name + " ", first: func() { d.spoke(begun) }}
	cmd.Stdout = out
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	dieWithParent(cmd)
	started, ended := make(chan error, 1), make(chan struct{})
	asked := new(atomic.Bool)
	d.cmd, d.ended, d.asked, d.out = cmd, ended, asked, out
	d.tasks.Go(func() {
		// On a thread of its own, since Linux takes the end of the one that
		// started it for the end of the parent.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if d.skew != 0 {
			beforeShift(cmd)
		}
		err := cmd.Start()
		if err == nil && d.skew != 0 {
			if err = shiftClock(cmd.Process.Pid, d.skew); err != nil {
				_ = cmd.Process.Kill() // it has the wrong clock
				_ = cmd.Wait()
			}
		}
		started <- err
		if err != nil {
			return
		}
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			fmt.Fprintf(out, "%s\n", lines.Text())
			if point, ok := strings.CutPrefix(lines.Text(), "failpoint "); ok {
				d.hit(cmd, name, point)
				if !strings.HasSuffix(point, " stop") {
					asked.Store(true)
				}
			}
		}
		_ = cmd.Wait() // its state says how it ended
		close(ended)
		d.gone(cmd, name, asked.Load())
	})
	if err := <-started; err != nil {
		d.cmd = nil
		return err
	}
	return nil
}

// spoke is called when a process that was begun at that moment says its first word, before it asks the database for anything: where
// that takes a quarter of the lease, its machine stood still for it.
func (d *daemon) spoke(begun time.Time) {
	if now := time.Now(); now.Sub(begun) > d.lease/4 {
		d.faults.note(Fault{Kind: Slow, What: "for one listener", Daemon: d.number, From: begun, To: now})
	}
}

// pid is that of the process; 0 where there is none.
func (d *daemon) pid() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil || d.cmd.Process == nil {
		return 0
	}
	return d.cmd.Process.Pid
}

// fault is one that comes upon this daemon alone, now.
func (d *daemon) fault(k Kind, what string) Fault {
	now := time.Now()
	return Fault{Kind: k, What: what, Daemon: d.number, From: now, To: now}
}

// hit is called when a process says that it is at its failpoint.
func (d *daemon) hit(cmd *exec.Cmd, name, point string) {
	f := d.fault(Failpoint, name+" at "+point)
	if !strings.HasSuffix(point, " stop") {
		d.faults.note(f)
		return
	}
	// It stands still by itself; somebody has to wake it.
	d.tasks.Go(func() {
		done := d.faults.begin(f)
		time.Sleep(d.lease + 500*time.Millisecond)
		_ = cmd.Process.Signal(syscall.SIGCONT) // or it has ended
		done()
	})
}

// gone is called when a process has ended, and starts the next one where
// nobody else is about to. One that nobody asked for is a finding.
func (d *daemon) gone(cmd *exec.Cmd, name string, asked bool) {
	time.Sleep(50 * time.Millisecond) // one that cannot start must not fill the machine
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd != cmd || d.retired {
		return
	}
	d.faults.note(d.fault(Kill, name+" ended by itself"))
	if !asked {
		d.crashes = append(d.crashes, fmt.Sprintf("%s ended by itself: %s", name, cmd.ProcessState))
	}
	if err := d.start(""); err != nil {
		fmt.Fprintln(d.log, "cannot start a daemon:", err)
	}
}

// kill ends the process, and starts another one with a failpoint after a
// while.
func (d *daemon) kill(ctx context.Context, down time.Duration, failpoint string) {
	d.mu.Lock()
	cmd, ended := d.cmd, d.ended
	d.cmd = nil // so that gone has nothing to do
	name := fmt.Sprintf("d%d.%d", d.number, d.count)
	d.mu.Unlock()
	if cmd == nil {
		return // somebody else is at it
	}
	f := d.fault(Kill, name)
	_ = cmd.Process.Kill() // or it has ended
	<-ended
	f.To = time.Now()
	d.faults.note(f)
	sleep(ctx, down)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.retired && d.cmd == nil { // or somebody else has started one
		if err := d.start(failpoint); err != nil {
			fmt.Fprintln(d.log, "cannot start a daemon:", err)
		}
	}
}

// terminate ends the process by SIGTERM; somebody has to start the next one. It
// returns which one it was, "" where there was none, whether a failpoint ended it
// or it was too early, and when it was told to. One that does not end with code 0 by itself is a finding.
func (d *daemon) terminate() (name string, asked bool, from time.Time) {
	d.mu.Lock()
	cmd, ended, hit, out := d.cmd, d.ended, d.asked, d.out
	d.cmd = nil // so that gone has nothing to do
	name = fmt.Sprintf("d%d.%d", d.number, d.count)
	d.mu.Unlock()
	if cmd == nil {
		return "", false, from
	}
	f := d.fault(Terminate, name)
	_ = cmd.Process.Signal(syscall.SIGCONT)
	_ = cmd.Process.Signal(syscall.SIGTERM) // or it has ended
	timer := time.NewTimer(termination)
	defer timer.Stop()
	late := false
	select {
	case <-ended:
	case <-timer.C:
		late = true
		_ = cmd.Process.Kill()
		<-ended
	}
	f.To = time.Now()
	d.faults.note(f)
	d.mu.Lock()
	defer d.mu.Unlock()
	asked = hit.Load()
	if tooYoung(cmd.ProcessState, out) {
		return name, true, f.From
	}
	if code := cmd.ProcessState.ExitCode(); !asked && (late || code != 0) {
		d.crashes = append(d.crashes, fmt.Sprintf("%s ended %s after SIGTERM, with code %d", name, f.To.Sub(f.From).Round(time.Millisecond), code))
	}
	return name, asked, f.From
}

// stop has the process stand still for a while.
func (d *daemon) stop(ctx context.Context, still time.Duration) {
	d.mu.Lock()
	cmd := d.cmd
	name := fmt.Sprintf("d%d.%d", d.number, d.count)
	d.mu.Unlock()
	if cmd == nil {
		return
	}
	done := d.faults.begin(d.fault(Stop, name))
	_ = cmd.Process.Signal(syscall.SIGSTOP) // or it has ended
	sleep(ctx, still)
	_ = cmd.Process.Signal(syscall.SIGCONT)
	done()
}

// retire ends the process by SIGTERM, and by SIGKILL where that takes longer
// than it may. It returns the exit code, which is -1 for a signal. One that has said nothing
// yet may be ended by SIGTERM itself.
func (d *daemon) retire(within time.Duration) (name string, code int) {
	d.mu.Lock()
	d.retired = true
	cmd, ended, out := d.cmd, d.ended, d.out
	name = fmt.Sprintf("d%d.%d", d.number, d.count)
	d.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.NewTimer(within)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
			_ = cmd.Process.Kill()
			<-ended
		}
		code = cmd.ProcessState.ExitCode()
		if tooYoung(cmd.ProcessState, out) {
			code = 0
		}
	}
	d.tasks.Wait()
	return name, code
}

// tooYoung reports whether SIGTERM came so early that a process had neither begun anything nor
// waited for signals, and was ended by the signal itself.
func tooYoung(ended *os.ProcessState, out *prefixed) bool {
	s, ok := ended.Sys().(syscall.WaitStatus)
	return ok && s.Signaled() && s.Signal() == syscall.SIGTERM && !out.wrote.Load()
}

// next starts a process with this OUTBOX_FAILPOINT where none is.
func (d *daemon) next(failpoint string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd != nil || d.retired {
		return
	}
	if err := d.start(failpoint); err != nil {
		fmt.Fprintln(d.log, "cannot start a daemon:", err)
	}
}

// prefixed writes each line with a prefix. What comes in one Write is taken to be
// whole lines.
type prefixed struct {
	to     io.Writer
	prefix string
	first  func()      // is called once it does
	wrote  atomic.Bool // anything
}

// Write implements io.Writer.
func (p *prefixed) Write(b []byte) (int, error) {
	if p.wrote.CompareAndSwap(false, true) && p.first != nil {
		p.first()
	}
	for line := range strings.Lines(string(b)) {
		if _, err := io.WriteString(p.to, p.prefix+line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// surroundings are the variables that any process needs.
func surroundings() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
