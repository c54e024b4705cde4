//go:build unix && !linux

package devpg

import "syscall"

// dieWithParent has no counterpart here: a server whose parent is killed goes
// on, until its temporary folder is removed by the next start.
func dieWithParent(*syscall.SysProcAttr) {}

// worksIn knows nothing here and leaves the question to Postgres.
func worksIn(int, string) (yes, sure bool) { return false, false }

// killSessions leaves sessions to notice by themselves that the server is gone.
func (p *process) killSessions() {}
