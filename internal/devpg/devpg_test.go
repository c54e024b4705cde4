package devpg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The test binary is also the parent that TestParentKilled kills.
const parentEnv = "DEVPG_TEST_PARENT_OF"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentEnv); dir != "" {
		s, err := Start(context.Background(), Options{DataDir: dir})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.Port())
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// folder returns an empty folder that the server's account can enter; the
// parent of t.TempDir is closed to it when root runs the tests.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "devpg-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

// query runs sql and returns the one value that it gives, or "".
func query(t *testing.T, s *Server, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var value string
	err = conn.QueryRow(t.Context(), sql).Scan(&value)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func listening(port int) bool {
	conn, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// wantError fails unless err holds each text.
func wantError(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not hold %q", err, text)
		}
	}
}

func TestStartStop(t *testing.T) {
	t.Parallel()
	s := start(t, Options{MaxConnections: 37, Settings: map[string]string{"work_mem": "5MB"}})
	for _, tt := range []struct{ sql, want string }{
		{"show server_encoding", "UTF8"},
		{"show timezone", "UTC"},
		{"show listen_addresses", "127.0.0.1"},
		{"show unix_socket_directories", ""},
		{"show fsync", "off"},
		{"show max_connections", "37"},
		{"show work_mem", "5MB"},
		{"select current_user", "postgres"},
		{"select (current_setting('server_version_num')::int / 10000)::text", strconv.Itoa(s.Version())},
	} {
		if got := query(t, s, tt.sql); got != tt.want {
			t.Errorf("%s: %q; want %q", tt.sql, got, tt.want)
		}
	}
	stop(t, s)
	if listening(s.Port()) {
		t.Errorf("port %d is still served", s.Port())
	}
	if _, err := os.Stat(filepath.Dir(s.DataDir())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary folder is still there: %v", err)
	}
	stop(t, s) // a second time does nothing
}

func TestDataDirIsKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), "a", "b") // made, with its parent
	s := start(t, Options{DataDir: dir})
	if got := query(t, s, "show fsync"); got != "on" {
		t.Errorf("fsync is %s", got)
	}
	query(t, s, "create table kept as select 'yes' as answer")
	stop(t, s)
	s = start(t, Options{DataDir: dir})
	if got := query(t, s, "select answer from kept"); got != "yes" {
		t.Errorf("answer is %q", got)
	}
}

// busy keeps a session at work, one that will not notice when the server dies.
func busy(t *testing.T, s *Server, d time.Duration) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	ended := make(chan struct{})
	t.Cleanup(func() { <-ended })
	go func() {
		defer close(ended)
		conn.Exec(t.Context(), fmt.Sprintf(`do $$ declare began timestamptz := clock_timestamp(); begin
			while clock_timestamp() < began + interval '%d s' loop end loop; end $$`, int(d.Seconds())))
	}()
	for query(t, s, "select count(*)::text from pg_stat_activity where state = 'active' and query like 'do %'") != "1" {
		if !pause(t.Context()) {
			t.Fatal("the session does not begin")
		}
	}
}

func TestRestartAndKill(t *testing.T) {
	t.Parallel()
	s := start(t, Options{})
	port := s.Port()
	for _, tt := range []struct {
		name string
		do   func() error
	}{
		{"fast", func() error { return s.Restart(t.Context(), Fast) }},
		{"immediate", func() error { return s.Restart(t.Context(), Immediate) }},
		{"halted in between", func() error {
			err := s.Halt(t.Context(), Fast)
			if listening(port) {
				t.Error("the server still listens")
			}
			return errors.Join(err, s.Restart(t.Context(), Fast))
		}},
		{"killed", func() error {
			s.Kill()
			s.Kill() // does nothing
			return s.Restart(t.Context(), Fast)
		}},
		{"killed with a session at work", func() error {
			if runtime.GOOS == "linux" {
				busy(t, s, time.Hour)
			}
			s.Kill()
			return s.Restart(t.Context(), Fast)
		}},
		{"killed behind our back, the session goes on", func() error {
			busy(t, s, 2*time.Second)
			p := s.process
			p.cmd.Process.Kill()
			<-p.done
			return s.Restart(t.Context(), Fast)
		}},
	} {
		query(t, s, "drop table if exists kept")
		query(t, s, "create table kept as select 'yes' as answer")
		if err := tt.do(); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if s.Port() != port || query(t, s, "select answer from kept") != "yes" {
			t.Errorf("%s: another port or other data", tt.name)
		}
	}
	if err := s.Restart(t.Context(), "smart"); err == nil {
		t.Error("an unknown mode is accepted")
	}
}

func TestStaleLockFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), "data")
	s := start(t, Options{DataDir: dir})
	s.Kill()
	lock := filepath.Join(dir, "postmaster.pid")
	text, err := os.ReadFile(lock)
	if err != nil {
		t.Fatalf("kill left no lock file: %v", err)
	}
	s = start(t, Options{DataDir: dir})
	s.Kill()
	if runtime.GOOS != "linux" {
		return
	}

	// The process id in it may belong to another process by now.
	other := exec.Command("sleep", "600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	_, rest, _ := strings.Cut(string(text), "\n")
	text = fmt.Appendf(nil, "%d\n%s", other.Process.Pid, rest)
	if err := os.WriteFile(lock, text, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, Options{DataDir: dir})
}

func TestParentKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends a server with its parent")
	}
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(folder(t), "data")
	parent := exec.Command(self)
	parent.Env = append(os.Environ(), parentEnv+"="+dir)
	if _, err := parent.StdinPipe(); err != nil { // closed by Wait
		t.Fatal(err)
	}
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer parent.Wait()
	defer parent.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(line)
	}
	if !listening(port) {
		t.Fatal("the server does not listen")
	}

	parent.Process.Kill()
	start(t, Options{DataDir: dir, Port: port}) // fails if the server outlives its parent
}

func TestDataDirInUse(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), "data")
	s := start(t, Options{DataDir: dir})
	_, err := Start(t.Context(), Options{DataDir: dir})
	wantError(t, err, dir+" is in use", strconv.Itoa(s.process.pid()), strconv.Itoa(s.Port()))
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("more than a line: %v", err)
	}
	if got := query(t, s, "select 'alive'"); got != "alive" {
		t.Error("the first server was disturbed")
	}
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	taken := l.Addr().(*net.TCPAddr).Port

	dir := folder(t)
	write := func(path, text string) string {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Dir(path)
	}
	for _, tt := range []struct {
		name    string
		options Options
		want    []string
	}{
		{"the port is taken", Options{Port: taken}, []string{strconv.Itoa(taken), "cannot be used"}},
		{"the log tells why", Options{Settings: map[string]string{"work_mem": "much"}}, []string{"end of its log", `invalid value for parameter "work_mem"`}},
		{"made by another version", Options{DataDir: write("other/PG_VERSION", "7\n")}, []string{"was made by Postgres 7", "install Postgres 7"}},
		{"something else is in it", Options{DataDir: write("full/letter", "dear")}, []string{"holds no Postgres data"}},
		{"a version of nonsense", Options{DataDir: write("nonsense/PG_VERSION", "x")}, []string{"PG_VERSION"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := Start(t.Context(), tt.options)
			if s != nil {
				stop(t, s)
			}
			wantError(t, err, tt.want...)
		})
	}
}

func TestStartCanceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	dir := filepath.Join(folder(t), "data")
	_, err := Start(ctx, Options{DataDir: dir})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	start(t, Options{DataDir: dir}) // initdb has cleaned up
}

func TestRemoveStale(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	hour := time.Now().Add(-time.Hour)
	folder := func(name string) string {
		path := filepath.Join(parent, tempPrefix+name)
		if err := os.Mkdir(path, 0o711); err != nil {
			t.Fatal(err)
		}
		return path
	}
	age := func(path string) {
		if err := os.Chtimes(path, hour, hour); err != nil {
			t.Fatal(err)
		}
	}
	left, held, young := folder("left"), folder("held"), folder("young")
	lock, err := lockFolder(held)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	age(left)
	age(held)

	removeStale(parent)
	for path, want := range map[string]bool{left: false, held: true, young: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %t; want %t", filepath.Base(path), err == nil, want)
		}
	}
}
