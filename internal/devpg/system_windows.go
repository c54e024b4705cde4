package devpg

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// An account is not used on Windows: programs run as the caller, who must not
// be an administrator, since Postgres refuses that.
type account struct{ name string }

func isRoot() bool { return false }

func serverAccount(string) (*account, error) { return nil, nil }

func (*account) mkdirs(dir string) error { return os.MkdirAll(dir, 0o755) }

func (*account) give(string) error    { return nil }
func (*account) owns(string) error    { return nil }
func (*account) reaches(string) error { return nil }

// attributes puts a program into a process group of its own, so that Ctrl-C in
// the console reaches only us.
func attributes(*account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// gently leaves a canceled command to be killed.
func gently(*exec.Cmd) {}

// shutdown asks the server to end. Windows has no signals; pg_ctl knows the
// pipe that stands for them.
func (p *process) shutdown(mode Mode) error {
	return exec.Command(program(filepath.Dir(p.cmd.Path), "pg_ctl"),
		"stop", "-D", p.dataDir, "-m", string(mode), "-W").Run()
}

// killSessions leaves sessions to notice by themselves that the server is gone.
func (p *process) killSessions() {}

// worksIn knows nothing here and leaves the question to Postgres.
func worksIn(int, string) (yes, sure bool) { return false, false }

// lockFolder takes the lock of a temporary folder: an open file cannot be
// removed, and so cannot the folder.
func lockFolder(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return os.Create(path)
}

func mine(fs.FileInfo) bool { return true }
