package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// newTerminal makes a pseudo terminal: see pty(7) and ioctl_tty(2).
func newTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	conn, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number, locked int32
	var failed syscall.Errno
	if err := conn.Control(func(fd uintptr) {
		if _, _, failed = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCSPTLCK, uintptr(unsafe.Pointer(&locked))); failed == 0 {
			_, _, failed = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCGPTN, uintptr(unsafe.Pointer(&number)))
		}
	}); err != nil || failed != 0 {
		t.Fatal(err, failed)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// TestTerminalGone: a daemon whose terminal is closed stops, also where its output
// goes elsewhere: nobody would see it go on. While the terminal is there, SIGHUP is
// about the routes.
func TestTerminalGone(t *testing.T) {
	t.Parallel()
	// Under nohup the listener would inherit that SIGHUP is ignored, and outlive its terminal.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	db := pgtest.New(t)
	master, slave := newTerminal(t)
	p := newProc(t, t.TempDir(), daemonEnv(db))
	p.cmd.Stdin = slave
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	p.start()
	p.ready()
	p.signal(syscall.SIGHUP)
	p.line("no routes to reload", 10*time.Second)
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	if err := master.Close(); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(20 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if n := p.lines("no routes to reload"); n != 1 {
		t.Errorf("it was reloaded %d times", n)
	}
}
