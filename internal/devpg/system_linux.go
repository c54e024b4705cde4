package devpg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent has the kernel send SIGQUIT, an immediate shutdown, when the
// thread that starts the program ends. initdb cleans up on it too.
func dieWithParent(attr *syscall.SysProcAttr) {
	attr.Pdeathsig = syscall.SIGQUIT
}

// worksIn reports whether process pid works in dir, as a server does in its
// data folder. It is not sure about a process of somebody else.
func worksIn(pid int, dir string) (yes, sure bool) {
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if errors.Is(err, os.ErrNotExist) {
		return false, true
	}
	if err != nil {
		return false, false
	}
	dir, err = filepath.EvalSymlinks(dir)
	return cwd == dir, err == nil
}

// killSessions kills the processes that the server has started, since a busy
// one outlives it and keeps the data in use. The server is stopped meanwhile:
// it would start others, and while it does not look, no process id of a dead
// one is given to anybody else.
func (p *process) killSessions() {
	if p.cmd.Process.Signal(syscall.SIGSTOP) != nil {
		return
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.pid()))
	if err != nil {
		return
	}
	for child := range strings.FieldsSeq(string(children)) {
		if pid, err := strconv.Atoi(child); err == nil {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
