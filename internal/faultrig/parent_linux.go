package faultrig

import (
	"os/exec"
	"syscall"
)

// dieWithParent has cmd killed when the thread ends that starts it.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
