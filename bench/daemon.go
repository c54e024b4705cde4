package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// secret signs the webhooks of a run.
const secret = "whsec_b3V0Ym94LWJlbmNoLW91dGJveC1iZW5jaC1vdXRib3g="

// A daemon is a listener that runs as a process of its own.
type daemon struct {
	cmd      *exec.Cmd
	launched time.Time // just before it was started
	output   *ending
	ended    chan struct{} // closed once it has
}

// vars are environment variables of a listener.
type vars map[string]string

// batch is a batch size, for the environment.
func batch(n int) vars { return vars{"OUTBOX_BATCH_SIZE": strconv.Itoa(n)} }

// launch starts the listener on db as a daemon, with its defaults but for
// env. It does not wait for it.
func (r *run) launch(db *database, env vars) (*daemon, error) {
	all := vars{
		"DATABASE_URL":               db.url,
		"OUTBOX_POLL_INTERVAL_MS":    "5000",
		"OUTBOX_LOG_LEVEL":           "warn",
		"OUTBOX_WEBHOOK_SECRET":      secret,
		"OUTBOX_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
	}
	for name, v := range env {
		all[name] = v
	}
	cmd := exec.Command(r.self)
	cmd.Dir = r.temp // where no .env is
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "TZ", "SystemRoot"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	for name, v := range all {
		cmd.Env = append(cmd.Env, name+"="+v)
	}
	d := &daemon{cmd: cmd, output: &ending{}, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = d.output, d.output
	d.launched = time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot run the listener: %w", err)
	}
	go func() {
		defer close(d.ended)
		_ = cmd.Wait() // how it ended is in its output
	}()
	return d, nil
}

// launchAsleep is launch, and waits until the listener sleeps: it holds the
// gate, so that the next insert wakes it.
func (r *run) launchAsleep(ctx context.Context, db *database, env vars) (*daemon, error) {
	d, err := r.launch(db, env)
	if err != nil {
		return nil, err
	}
	if err := db.asleep(ctx, d); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

// running is a listener that runs: a process, or one in a program of the
// benchmark's own.
type running interface {
	// pause waits for that long, and fails when the listener or ctx ends first.
	pause(ctx context.Context, wait time.Duration) error
}

// gate is the advisory lock that a sleeping listener holds, see docs/design.md.
const gate = int64(7206178340117325153)

// asleep waits until somebody holds the gate of db.
func (db *database) asleep(ctx context.Context, l running) error {
	for {
		held, err := value[bool](ctx, db, `select exists (select from pg_locks
			where locktype = 'advisory' and objsubid = 1 and granted and mode = 'ExclusiveLock'
			  and database = (select oid from pg_database where datname = current_database())
			  and (classid::bigint << 32 | objid::bigint) = $1)`, gate)
		if err != nil || held {
			return err
		}
		if err := l.pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// pause implements running.
func (d *daemon) pause(ctx context.Context, wait time.Duration) error {
	over, err := pauseUntil(ctx, wait, d.ended)
	if over {
		err = fmt.Errorf("the listener ended by itself: %s", d.output)
	}
	return err
}

// pauseUntil waits for that long, or until something is over.
func pauseUntil(ctx context.Context, wait time.Duration, ended <-chan struct{}) (over bool, err error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-ended:
		return true, nil
	}
}

// stop ends the listener, in order if it can within 20 seconds.
func (d *daemon) stop() {
	if d.cmd.Process.Signal(os.Interrupt) == nil {
		select {
		case <-d.ended:
			return
		case <-time.After(20 * time.Second):
		}
	}
	d.kill()
}

// kill ends the listener at once.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill() // or it has ended
	<-d.ended
}

var errNoProc = errors.New("this system has no /proc to read it from")

// memory returns the named entry of /proc/PID/status, such as VmRSS, in MiB.
func (d *daemon) memory(entry string) (float64, error) {
	b, err := os.ReadFile(d.proc("status"))
	if err != nil {
		return 0, errNoProc
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, entry+":"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in %s", entry, d.proc("status"))
}

// cpu returns the time that the process has computed so far.
func (d *daemon) cpu() (time.Duration, error) { return computed(d.cmd.Process.Pid) }

// computed returns the time that the threads of a process have computed so far,
// in nanoseconds as the scheduler counts them. The other counts of /proc are in
// ticks of 10 ms, in each of which a listener that sleeps does its work many times
// over. What a thread did that has ended is not in it: Go's runtime keeps its own.
func computed(pid int) (time.Duration, error) {
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "schedstat"))
	if err != nil {
		return 0, err
	}
	var all time.Duration
	for _, file := range files {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // ended meanwhile
		}
		if err != nil {
			return 0, err
		}
		took, _, _ := strings.Cut(string(b), " ") // computed, waited, how often
		ns, err := strconv.ParseInt(took, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		all += time.Duration(ns)
	}
	if all == 0 { // as of a kernel without CONFIG_SCHED_INFO
		return 0, errNoSchedstat
	}
	return all, nil
}

var errNoSchedstat = errors.New("this system has no /proc/PID/task/*/schedstat to read processor time from")

// noSchedstat says that the system does not tell in nanoseconds what a process
// computes.
func noSchedstat(context.Context, *run) (string, error) {
	if _, err := computed(os.Getpid()); err != nil {
		return err.Error(), nil
	}
	return "", nil
}

func (d *daemon) proc(name string) string {
	return filepath.Join("/proc", strconv.Itoa(d.cmd.Process.Pid), name)
}

// ending keeps the end of what a process writes.
type ending struct {
	mu   sync.Mutex
	text []byte
}

func (e *ending) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.text = append(e.text, b...)
	if over := len(e.text) - 4<<10; over > 0 {
		e.text = append(e.text[:0], e.text[over:]...)
	}
	return len(b), nil
}

func (e *ending) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(bytes.TrimSpace(e.text))
}
