//go:build unix

package faultrig

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/devpg"
)

// pooler is a PgBouncer in transaction mode before a server.
type pooler struct {
	cmd  *exec.Cmd
	dir  string
	addr string
	done chan struct{}
}

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
	p := &pooler{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), done: make(chan struct{})}
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
	p.cmd = exec.Command(program, config)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	dieWithParent(p.cmd)
	if os.Geteuid() == 0 { // which it refuses
		const nobody = 65534
		if p.cmd.SysProcAttr == nil {
			p.cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		runtime.LockOSThread() // see daemon.start
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // it is killed
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
			return nil, fmt.Errorf("pgbouncer ended: %s", p.cmd.ProcessState)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, fmt.Errorf("pgbouncer does not take connections: %w", err)
		}
	}
}

// stop ends it.
func (p *pooler) stop() error {
	_ = p.cmd.Process.Kill() // or it has ended
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
