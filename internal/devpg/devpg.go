// Package devpg runs a private Postgres for development and tests.
//
// The server listens on 127.0.0.1 only and trusts every local account; it is
// not a place for anything precious. It works as an ordinary user and as root,
// where the server runs as account postgres or nobody. On Linux the server
// dies with its parent, even when that is killed.
package devpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	startTimeout = time.Minute     // for a start whose context has no deadline
	fastTimeout  = 5 * time.Second // for a fast shutdown, then it is an immediate one
	inUseGrace   = 2 * time.Second // for a server to leave whose parent has died
	pollInterval = 20 * time.Millisecond
)

// Options says which server Start makes. The zero value is a temporary one on
// a free port.
type Options struct {
	// DataDir keeps the data from one start to the next; it is made when it is
	// missing. "" means a temporary folder that Stop removes.
	DataDir string

	Port           int // on 127.0.0.1; 0 for a free one
	MaxConnections int // 0 for Postgres's own default

	// Fsync makes commits survive a power cut; they survive Kill without it. A
	// server with a DataDir always has it, one without only if this is true.
	// Settings can say otherwise.
	Fsync bool

	// Settings are server settings by name. They win over everything above.
	Settings map[string]string

	// Log gets the server's log and a line about a download, from goroutines
	// of its own. A Write that blocks blocks the server. nil discards it.
	Log io.Writer
}

// Mode is a way of shutting the server down.
type Mode string

const (
	Fast      Mode = "fast"      // open transactions are rolled back, then a clean end
	Immediate Mode = "immediate" // as a crash: the next start recovers
)

// Server is a running Postgres. Its methods may be called concurrently.
type Server struct {
	binDir  string
	version int
	port    int
	dataDir string
	temp    *tempDir // nil for a server with a DataDir
	account *account
	args    []string
	log     *tail

	mu      sync.Mutex // held while the process is exchanged
	process *process   // nil when down
}

// Start runs a server and returns it once it accepts connections. It waits
// until ctx is done, or a minute if ctx has no deadline, and then fails with
// the last lines of the server's log. A canceled ctx does not stop a server
// that has been returned.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()

	s := &Server{log: &tail{next: o.Log}}
	if o.DataDir != "" {
		if s.dataDir, err = filepath.Abs(o.DataDir); err != nil {
			return nil, err
		}
		// Before the port, which a server that is leaving may hold too.
		if err := notInUse(ctx, s.dataDir); err != nil {
			return nil, err
		}
	}
	if o.Port != 0 {
		if err := portFree(o.Port); err != nil {
			return nil, err
		}
	}
	if s.account, err = serverAccount(s.dataDir); err != nil {
		return nil, err
	}
	if s.dataDir == "" {
		if s.temp, err = newTempDir(s.account); err != nil {
			return nil, err
		}
		s.dataDir = filepath.Join(s.temp.path, "data")
	}
	defer func() {
		if err != nil {
			s.temp.remove()
		}
	}()

	if s.binDir, s.version, err = s.programs(ctx, o.Log); err != nil {
		return nil, err
	}
	if err := s.initdb(ctx, o); err != nil {
		return nil, err
	}
	s.args = arguments(o)

	if o.Port != 0 {
		s.port = o.Port
		err = s.launch(ctx)
	} else {
		err = s.launchAnywhere(ctx)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// programs returns programs that fit the data folder, if there is one already.
func (s *Server) programs(ctx context.Context, notes io.Writer) (string, int, error) {
	find := finder{account: s.account, notes: notes}
	have, err := dataVersion(s.dataDir)
	if err != nil {
		return "", 0, err
	}
	dir, version, err := find.find(ctx, have)
	if other, ok := errors.AsType[errOtherVersion](err); ok {
		return "", 0, fmt.Errorf("%s was made by Postgres %d, found is Postgres %d: install Postgres %d and point %s at its programs, or use another data folder",
			s.dataDir, have, other.found, have, binEnv)
	}
	return dir, version, err
}

// dataVersion returns the major version of the server that made dir, or 0 if
// dir is empty or missing.
func dataVersion(dir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		entries, err := os.ReadDir(dir)
		if err == nil && len(entries) > 0 {
			return 0, fmt.Errorf("%s is not empty and holds no Postgres data: use another data folder", dir)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", filepath.Join(dir, "PG_VERSION"), err)
	}
	return version, nil
}

// arguments returns the server's arguments apart from the data folder and the
// port. Of two settings with the same name the later one wins.
func arguments(o Options) []string {
	args := []string{
		"-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=",
		"-c", "ssl=off",
		"-c", "logging_collector=off",
		"-c", "log_destination=stderr",
		"-c", "log_checkpoints=off",
		"-c", "lc_messages=C", // startError reads the log
		"-c", "timezone=UTC",
		"-c", "log_timezone=UTC",
	}
	if o.MaxConnections != 0 {
		args = append(args, "-c", "max_connections="+strconv.Itoa(o.MaxConnections))
	}
	if o.DataDir == "" && !o.Fsync {
		// Not synchronous_commit=off too: it would lose commits on Kill.
		args = append(args, "-c", "fsync=off", "-c", "full_page_writes=off")
	}
	for name, value := range o.Settings {
		args = append(args, "-c", name+"="+value)
	}
	return args
}

// URL returns the address of a database, as the superuser.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User("postgres"),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Port returns the port on 127.0.0.1; it is the same for each restart.
func (s *Server) Port() int { return s.port }

// Version returns the major version.
func (s *Server) Version() int { return s.version }

// DataDir returns the data folder.
func (s *Server) DataDir() string { return s.dataDir }

// LogTail returns the end of the server's log.
func (s *Server) LogTail() string { return s.log.String() }

// Stop shuts the server down, fast and after five seconds (or when ctx is
// done) immediately, and removes a temporary data folder. Stopping a server
// that is down only removes the folder.
func (s *Server) Stop(ctx context.Context) error {
	err := s.Halt(ctx, Fast)
	return errors.Join(err, s.temp.remove())
}

// Halt shuts the server down as Stop does but keeps its data, so that Restart
// can bring it back. The shutdown of mode Immediate is immediate at once.
func (s *Server) Halt(ctx context.Context, mode Mode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.halt(ctx, mode)
}

func (s *Server) halt(ctx context.Context, mode Mode) error {
	if s.process == nil {
		return nil
	}
	err := s.process.stop(ctx, mode)
	s.process = nil
	return err
}

// Restart shuts the server down as Halt does and starts it again on the same
// port. It also starts a server that is down.
func (s *Server) Restart(ctx context.Context, mode Mode) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.halt(ctx, mode); err != nil {
		return err
	}
	for {
		err := s.launch(ctx)
		if !errors.Is(err, errPortTaken) || !pause(ctx) {
			return err
		}
	}
}

// Kill ends the server as kill -9 does, on Linux with all its sessions, and
// returns once it is gone. Restart brings it back.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// launch starts the process and waits until it accepts connections.
func (s *Server) launch(ctx context.Context) error {
	if err := notInUse(ctx, s.dataDir); err != nil {
		return err
	}
	args := append([]string{"-D", s.dataDir, "-p", strconv.Itoa(s.port)}, s.args...)
	for {
		s.log.reset()
		p, err := startProcess(program(s.binDir, "postgres"), args, s.dataDir, s.account, s.log)
		if err != nil {
			return s.cannotRun(err)
		}
		err = s.ready(ctx, p)
		if err == nil {
			s.process = p
			return nil
		}
		if err := p.stop(ctx, Immediate); err != nil {
			return err
		}
		// Sessions of a killed server may outlive it for a moment, with its
		// shared memory.
		if !errors.Is(err, errMemoryInUse) || !pause(ctx) {
			return err
		}
	}
}

// launchAnywhere is launch on a port that is free.
func (s *Server) launchAnywhere(ctx context.Context) (err error) {
	for range 5 { // another process may take the port before the server does
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err = s.launch(ctx); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// ready waits until p accepts connections. It asks the lock file first, since
// what answers on the port might be somebody else's server.
func (s *Server) ready(ctx context.Context, p *process) error {
	for {
		select {
		case <-p.done:
			return s.startError("postgres stopped while starting")
		default:
		}
		lock, err := readLockFile(s.dataDir)
		if err == nil && lock.pid == p.pid() && lock.status == "ready" {
			err := s.connect(ctx)
			if err == nil {
				return nil
			}
			if _, ok := errors.AsType[*pgconn.PgError](err); ok {
				return fmt.Errorf("%s was not made completely, or not by this program: remove it or use another data folder: %w", s.dataDir, err)
			}
		}
		if !pause(ctx) {
			return s.startError("postgres was not ready in time")
		}
	}
}

func (s *Server) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

var (
	errPortTaken   = errors.New("port taken")
	errMemoryInUse = errors.New("shared memory in use")
)

// startError explains a failed start from the server's log.
func (s *Server) startError(what string) error {
	log := s.log.String()
	switch {
	case strings.Contains(log, "could not bind"):
		return fmt.Errorf("port %d on 127.0.0.1 cannot be used (%w)\n%s", s.port, errPortTaken, log)
	case strings.Contains(log, "pre-existing shared memory block"):
		return fmt.Errorf("%s: sessions of a killed server are still there (%w)\n%s", s.dataDir, errMemoryInUse, log)
	case strings.Contains(log, `lock file "postmaster.pid" already exists`):
		return inUse(s.dataDir)
	}
	return fmt.Errorf("%s; the end of its log:\n%s", what, log)
}

// cannotRun explains why a program did not start at all.
func (s *Server) cannotRun(err error) error {
	if s.account != nil && errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("cannot run %s as account %s: %w", s.binDir, s.account.name, err)
	}
	return fmt.Errorf("cannot run %s: %w", s.binDir, err)
}

// portFree fails if a port on 127.0.0.1 is taken.
func portFree(port int) error {
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("port %d on 127.0.0.1 cannot be used (%w): %w", port, errPortTaken, err)
	}
	return l.Close()
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, startTimeout)
}

// pause waits for the next look at something. It is false once ctx is done.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pollInterval):
		return true
	}
}

// lockFile is what is used of a postmaster.pid.
type lockFile struct {
	pid    int
	port   int
	status string // "starting", "ready", "stopping"; "" at first
}

func readLockFile(dataDir string) (lockFile, error) {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return lockFile{}, err
	}
	lines := append(strings.Split(string(text), "\n"), make([]string, 8)...)
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	pid, err := strconv.Atoi(lines[0])
	if err != nil {
		return lockFile{}, fmt.Errorf("postmaster.pid: %w", err)
	}
	port, _ := strconv.Atoi(lines[3]) // 0 in the first moments
	return lockFile{pid: max(pid, -pid), port: port, status: lines[7]}, nil
}

// notInUse fails if a live server uses dataDir, after a moment's patience with
// one that is about to leave. It removes a lock file of a server that is gone
// and whose process id belongs to something else by now: Postgres would take
// that for the server.
func notInUse(ctx context.Context, dataDir string) error {
	ctx, cancel := context.WithTimeout(ctx, inUseGrace)
	defer cancel()
	for {
		lock, err := readLockFile(dataDir)
		if err != nil {
			return nil // none, or Postgres says what is wrong with it
		}
		live, sure := worksIn(lock.pid, dataDir)
		if !sure {
			return nil // Postgres decides
		}
		if !live {
			err := os.Remove(filepath.Join(dataDir, "postmaster.pid"))
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return err
		}
		if !pause(ctx) {
			return inUse(dataDir)
		}
	}
}

// inUse returns the error for a data folder with a live server.
func inUse(dataDir string) error {
	who := "another Postgres"
	if lock, err := readLockFile(dataDir); err == nil {
		who += fmt.Sprintf(" (process %d, port %d)", lock.pid, lock.port)
	}
	return fmt.Errorf("%s is in use by %s: stop that or use another data folder", dataDir, who)
}
