//go:build unix

package faultrig

import (
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
	"sync"
	"syscall"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/devpg"
)

// pooler is a PgBouncer in transaction mode before a server. Where it ends by itself it is
// started again, as a service manager does: what is looked for are faults of ours.
type pooler struct {
	program string
	dir     string
	addr    string
	log     io.Writer
	done    chan struct{} // it has ended, and is not started again

	mu      sync.Mutex
	cmd     *exec.Cmd // what runs, or ran last
	stopped bool
}

// poolerAgain is how long one that ended by itself is away.
const poolerAgain = 100 * time.Millisecond

// poolerConfig asks for transactions and keeps its own defaults but for the time
// after which a server that was away is tried again, which is 15 s otherwise.
const poolerConfig = `[databases]
* = host=127.0.0.1 port=%d user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 500
server_login_retry = 1
`

// FindPgBouncer returns the path of the program, which Debian has in a place that
// is not on everybody's PATH.
func FindPgBouncer() (string, error) {
	path, err := exec.LookPath("pgbouncer")
	if err == nil {
		return path, nil
	}
	const debian = "/usr/sbin/pgbouncer"
	if _, serr := os.Stat(debian); serr == nil {
		return debian, nil
	}
	return "", err
}

// startPooler starts one before server, and returns when it takes connections.
func startPooler(ctx context.Context, server *devpg.Server, log io.Writer) (_ *pooler, err error) {
	program, err := FindPgBouncer()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, err
	}
	p := &pooler{program: program, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), log: log, done: make(chan struct{})}
	if p.dir, err = os.MkdirTemp("", "faultrig-pgbouncer"); err != nil {
		return nil, err
	}
	config := filepath.Join(p.dir, "pgbouncer.ini")
	err = os.WriteFile(config, fmt.Appendf(nil, poolerConfig, server.Port(), port), 0o644)
	if err == nil {
		err = os.Chmod(p.dir, 0o755) // it may run as somebody else
	}
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		runtime.LockOSThread() // see daemon.start
		defer runtime.UnlockOSThread()
		for first := true; ; first = false {
			err := p.launch(config)
			if first {
				started <- err
			}
			if err != nil {
				return
			}
			err = p.cmd.Wait()
			p.mu.Lock()
			stopped := p.stopped
			p.mu.Unlock()
			if stopped {
				return
			}
			fmt.Fprintf(p.log, "pgbouncer ended by itself: %v; it is started again\n", err)
			time.Sleep(poolerAgain)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", p.addr)
		if err == nil {
			return p, c.Close()
		}
		select {
		case <-p.done:
			return nil, errors.Join(errors.New("pgbouncer cannot be started again"), p.stop())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("pgbouncer does not take connections: %w", err), p.stop())
		}
	}
}

// launch starts the program, if it is not to be stopped.
func (p *pooler) launch(config string) error {
	cmd := exec.Command(p.program, config)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	dieWithParent(cmd)
	if os.Geteuid() == 0 { // which it refuses
		const nobody = 65534
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return errors.New("it was stopped")
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd = cmd
	return nil
}

// stop ends it.
func (p *pooler) stop() error {
	p.mu.Lock()
	p.stopped = true
	_ = p.cmd.Process.Kill() // or it has ended
	p.mu.Unlock()
	<-p.done
	return os.RemoveAll(p.dir)
}

// Pool puts a PgBouncer in transaction mode between the server and the listeners of
// the runs that follow. They hear no notifications then, and live by the sweep.
func (w *World) Pool(ctx context.Context) (err error) {
	w.pooler, err = startPooler(ctx, w.server, io.Discard)
	return err
}

// database is where listeners reach the database, as host:port, and what they have to
// ask for there.
func (w *World) database() (addr, parameters string) {
	if w.pooler != nil {
		return w.pooler.addr, "&default_query_exec_mode=cache_describe"
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(w.server.Port())), ""
}
