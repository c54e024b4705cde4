package devpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// A process is a running server.
type process struct {
	cmd     *exec.Cmd
	dataDir string
	done    chan struct{} // closed once it has ended
}

// startProcess runs a program until it ends. One goroutine starts it and waits
// for it on one thread of its own: Linux sends a child its parent-death signal
// when the thread ends that started it.
func startProcess(path string, args []string, dataDir string, who *account, out io.Writer) (*process, error) {
	cmd := exec.Command(path, args...)
	prepare(cmd, dataDir, who, out)
	p := &process{cmd: cmd, dataDir: dataDir, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() // how it ended is for the log to say
			close(p.done)
		}
	}()
	return p, <-started
}

// prepare fills in what all programs have in common.
func prepare(cmd *exec.Cmd, dir string, who *account, out io.Writer) {
	cmd.Dir = dir // the account may not be able to enter the caller's
	cmd.Env = environment()
	cmd.Stdout = out
	cmd.Stderr = out
	cmd.SysProcAttr = attributes(who)
	cmd.WaitDelay = time.Second / 2 // sessions of a killed server hold its output open
}

// environment returns what the programs need and nothing of what is ours:
// another account could read it from the process table.
func environment() []string {
	env := []string{"LC_ALL=" + locale(), "TZ=UTC"}
	for _, name := range []string{
		"PATH", "HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
		"SystemRoot", "SystemDrive", "USERPROFILE", "APPDATA", "TEMP", "TMP",
	} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// locale returns a locale with the order of code points that exists wherever
// the program runs.
func locale() string {
	if runtime.GOOS == "linux" {
		return "C.UTF-8"
	}
	return "C"
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the server, with more force when it takes too long.
func (p *process) stop(ctx context.Context, mode Mode) error {
	if mode != Fast && mode != Immediate {
		return fmt.Errorf("shutdown mode %q is not %s or %s", mode, Fast, Immediate)
	}
	if mode == Fast {
		if err := p.shutdown(Fast); err == nil && p.wait(ctx, fastTimeout) {
			return nil
		}
	}
	if err := p.shutdown(Immediate); err == nil && p.wait(context.WithoutCancel(ctx), fastTimeout) {
		return nil
	}
	p.kill()
	return nil
}

// wait reports whether the server has ended before ctx is done and timeout is
// over.
func (p *process) wait(ctx context.Context, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// kill ends the server at once and waits for the end of its main process.
func (p *process) kill() {
	p.killSessions()
	p.cmd.Process.Kill() // fails only if it has ended
	<-p.done
}

// initdb makes the data folder unless it is there already.
func (s *Server) initdb(ctx context.Context, o Options) error {
	if _, err := os.Stat(filepath.Join(s.dataDir, "PG_VERSION")); err == nil {
		return s.account.owns(s.dataDir)
	}
	if err := s.account.mkdirs(filepath.Dir(s.dataDir)); err != nil {
		return err
	}
	if err := os.Mkdir(s.dataDir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := s.account.give(s.dataDir); err != nil {
		return err
	}
	if err := s.account.reaches(s.dataDir); err != nil {
		return err
	}
	args := []string{"-D", s.dataDir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=" + locale()}
	if o.DataDir == "" {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, program(s.binDir, "initdb"), args...)
	out := new(tail)
	prepare(cmd, s.dataDir, s.account, out)
	gently(cmd) // so that initdb removes what it has made so far
	cmd.WaitDelay = fastTimeout
	err := onOneThread(cmd.Run)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("initdb was cut short: %w", ctx.Err())
	case cmd.ProcessState == nil:
		return s.cannotRun(err)
	}
	return fmt.Errorf("initdb: %w; the end of its output:\n%s", err, out)
}

// onOneThread runs f in a goroutine that keeps its thread; see startProcess.
func onOneThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		result <- f()
	}()
	return <-result
}

// A tail passes on what is written to it and remembers the end.
type tail struct {
	mu   sync.Mutex
	end  []byte
	next io.Writer // may be nil
}

// tailSize is how much of a log is remembered, in bytes.
const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	if over := len(t.end) - tailSize; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	if t.next != nil {
		t.next.Write(b) // a log that cannot be written must not stop the server
	}
	return len(b), nil
}

func (t *tail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.end))
}
