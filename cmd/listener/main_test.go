package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// isListener in the environment makes the test binary run as the listener.
const isListener = "LISTENER_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(isListener) != "" {
		main()
		return
	}
	os.Exit(pgtest.Main(m))
}

var update = flag.Bool("update", false, "write the generated files anew")

// proc is a listener that runs as a process of its own.
type proc struct {
	t              testing.TB
	cmd            *exec.Cmd
	stdout, stderr output
	ended          chan struct{} // closed once it has ended
}

// startListener starts the program with these variables, and no others but
// those that any process needs, in an empty working directory. The process is
// killed when the test ends.
func startListener(t testing.TB, env map[string]string, args ...string) *proc {
	t.Helper()
	return startListenerIn(t, t.TempDir(), env, args...)
}

// startListenerIn is startListener in the working directory dir.
func startListenerIn(t testing.TB, dir string, env map[string]string, args ...string) *proc {
	t.Helper()
	p := newProc(t, dir, env, args...)
	p.start()
	return p
}

// newProc is a listener that is not started yet.
func newProc(t testing.TB, dir string, env map[string]string, args ...string) *proc {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &proc{t: t, cmd: exec.Command(self, args...), ended: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = []string{isListener + "=1"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR", "GORACE", "SystemRoot"} {
		if v, ok := os.LookupEnv(name); ok {
			p.cmd.Env = append(p.cmd.Env, name+"="+v)
		}
	}
	for name, value := range env {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	return p
}

func (p *proc) start() {
	p.t.Helper()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // exit has the code
	}()
	p.t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // or it has ended
		<-p.ended
		if p.t.Failed() {
			p.t.Logf("listener %v: exit code %d\nstdout: %s\nstderr: %s", p.cmd.Args[1:], p.cmd.ProcessState.ExitCode(), &p.stdout, &p.stderr)
		}
	})
}

// exit waits for the process to end and returns its exit code.
func (p *proc) exit(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(within):
		p.t.Fatalf("the listener has not ended within %s", within)
	}
	return p.cmd.ProcessState.ExitCode()
}

// signal sends a signal, which Windows knows none of.
func (p *proc) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// line waits for a log line with this message and returns its values. The
// daemon logs to stdout, the other modes to stderr.
func (p *proc) line(msg string, within time.Duration) map[string]any {
	p.t.Helper()
	var found map[string]any
	pgtest.Eventually(p.t, within, func() (bool, string) {
		for _, text := range strings.Split(p.stdout.String()+"\n"+p.stderr.String(), "\n") {
			var values map[string]any
			if json.Unmarshal([]byte(text), &values) == nil && values["msg"] == msg {
				found = values
				return true, ""
			}
		}
		return false, "no line " + msg
	})
	return found
}

// ready waits until a daemon finds events.
func (p *proc) ready() {
	p.t.Helper()
	p.line("ready", 30*time.Second)
}

// output keeps what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// result is what a call of run came to.
type result struct {
	code           int
	stdout, stderr string
}

// call runs the program within the test, until it ends.
func call(t testing.TB, env map[string]string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var environ []string
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	var stdout, stderr output
	code := run(ctx, args, environ, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

func TestHelp(t *testing.T) {
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"--help", []string{"Usage: listener [flags]", "--once", "--limit=N", "--env-file=PATH", "--version", "  migrate ", "  config ", "Exit codes:"}},
		{"--once --help", []string{"--limit=N"}},
		{"run --help", []string{"Usage: listener run", "--once", "--limit=N", "--env-file=PATH"}},
		{"dev --help", []string{"--once", "--data-dir", "--port", "--admin-addr", "--verbose"}},
		{"preview --help", []string{"Usage: listener preview [<event-id>]", "--type=TYPE", "--payload=FILE", "--now=TIME", "--answers=FILE", "--with-ai", "--html", "--json", "Exit codes:"}},
		{"routes test --help", []string{"Usage: listener routes test [<dir>]", "--update", "Exit codes:"}},
		{"check --help", []string{"--offline", "--json", "--large", "--env-file=PATH"}},
		{"config --help", []string{"--markdown", "--env-file=PATH"}},
		{"migrate --help", []string{"migrate up", "migrate status", "migrate uninstall", "--wait", "--lock-timeout"}},
		{"migrate up --help", []string{"--backlog", "--grant", "--grant-operator", "--print"}},
		{"deliveries --help", []string{"Usage: listener deliveries [<delivery-id> ...]", "--state", "--type", "--channel", "--error", "--since", "--until", "--limit", "--json"}},
		{"replay --help", []string{"Usage: listener replay [<delivery-id> ...]", "--dry-run", "--yes", "--reason", "--rate", "--even-delivered"}},
		{"cancel --help", []string{"--dry-run", "--yes", "--reason", "--json"}},
		{"migrate status --help", []string{"--json"}},
		{"migrate uninstall --help", []string{"--force"}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			got := call(t, nil, strings.Fields(tt.args)...)
			if got.code != exitOK || got.stderr != "" {
				t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
			}
			for _, want := range tt.want {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("no %q in\n%s", want, got.stdout)
				}
			}
		})
	}
}

func TestHelpNamesEveryCommand(t *testing.T) {
	help := call(t, nil, "--help").stdout
	for _, line := range strings.Split(help, "\n") {
		if len(line) > 84 {
			t.Errorf("a line of %d letters: %s", len(line), line)
		}
	}
	for _, command := range []string{"dev", "migrate", "check", "config", "preview", "routes", "deliveries", "replay", "cancel", "hold", "release", "pause", "resume"} {
		if got := call(t, nil, command, "--help"); !strings.HasPrefix(got.stdout, "Usage: listener "+command) {
			t.Errorf("%s --help: %s", command, got.stdout)
		}
		if !strings.Contains(help, "\n  "+command+" ") {
			t.Errorf("%s is not in the help", command)
		}
	}
}

func TestVersion(t *testing.T) {
	got := call(t, nil, "--version")
	if got.code != exitOK || !strings.HasPrefix(got.stdout, "listener ") || strings.Count(got.stdout, "\n") != 1 {
		t.Errorf("exit code %d, %q", got.code, got.stdout)
	}
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--onse", `did you mean "--once"?`},
		{"deliver", "unexpected argument deliver"},
		{"--limit 5", "--limit goes with --once"},
		{"--once --limit=-1", "--limit has to be 0 or more"},
		{"--once --limit many", "--limit"},
		{"migrate --once", "unknown flag --once"},
		{"cancel", "say which"},
		{"resume", "say what"},
		{"pause --type a*b", "a star stands at the end"},
		{"pause --channel sms --json", "--json goes with --yes or --dry-run"},
		{"cancel 17", "is no id of a delivery"},
		{"hold --since yesterday", "--since=yesterday is not a time"},
		{"release --channel sms --json", "--json goes with --yes or --dry-run"},
		{"replay --channel sms --rate=-1", "--rate has to be 0 or more"},
		{"postgres://u:canary@h/db", "postgres://u:***@h/db"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			got := call(t, nil, strings.Fields(tt.args)...)
			if got.code != exitUsage || got.stdout != "" || !strings.Contains(got.stderr, tt.want) || strings.Contains(got.stderr, "canary") {
				t.Errorf("exit code %d, stdout %q, stderr %q; want %q", got.code, got.stdout, got.stderr, tt.want)
			}
		})
	}
}

// shortTempDir is a temporary directory with a short path: that of a socket
// has about a hundred bytes.
func shortTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ol")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
