//go:build unix

package devpg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An account is who the server runs as when root starts it, since Postgres
// refuses root. A nil account is the caller's own; its methods do nothing.
type account struct {
	name     string
	uid, gid uint32
}

func isRoot() bool { return os.Geteuid() == 0 }

// serverAccount returns the account for a server with this data folder ("" or
// missing for a new one): its owner, else postgres, else nobody.
func serverAccount(dataDir string) (*account, error) {
	if !isRoot() {
		return nil, nil
	}
	if info, err := os.Stat(dataDir); err == nil && dataDir != "" {
		if stat := info.Sys().(*syscall.Stat_t); stat.Uid != 0 {
			return &account{name: strconv.Itoa(int(stat.Uid)), uid: stat.Uid, gid: stat.Gid}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseInt(u.Uid, 10, 64) // nobody is -2 in places
		gid, err2 := strconv.ParseInt(u.Gid, 10, 64)
		if err1 == nil && err2 == nil {
			return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("no account postgres or nobody to run Postgres as: it refuses to run as root")
}

// mkdirs makes dir and what is missing above it, open to the account whatever
// the umask is.
func (a *account) mkdirs(dir string) error {
	if a == nil {
		return os.MkdirAll(dir, 0o755)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := a.mkdirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// give makes dir the account's own.
func (a *account) give(dir string) error {
	if a == nil {
		return nil
	}
	return os.Chown(dir, int(a.uid), int(a.gid))
}

// owns fails unless dir belongs to who the server runs as.
func (a *account) owns(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	want := uint32(os.Geteuid())
	if a != nil {
		want = a.uid
	}
	if got := info.Sys().(*syscall.Stat_t).Uid; got != want {
		return fmt.Errorf("%s belongs to user %d, and the server runs as user %d: change its owner or use another data folder", dir, got, want)
	}
	return a.reaches(dir)
}

// reaches fails if the account may not enter dir or a folder above it.
func (a *account) reaches(dir string) error {
	if a == nil {
		return nil
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		enter := fs.FileMode(0o001)
		switch {
		case stat.Uid == a.uid:
			enter = 0o100
		case stat.Gid == a.gid:
			enter = 0o010
		}
		if info.Mode()&enter == 0 {
			return fmt.Errorf("%s cannot be used: account %s, which the server runs as, may not enter %s", dir, a.name, at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// attributes puts a program into a process group of its own, so that Ctrl-C in
// the terminal reaches only us, and has it run as the account.
func attributes(who *account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if who != nil {
		attr.Credential = &syscall.Credential{Uid: who.uid, Gid: who.gid}
	}
	dieWithParent(attr)
	return attr
}

// gently has a canceled command end by itself.
func gently(cmd *exec.Cmd) {
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
}

// shutdown asks the server to end.
func (p *process) shutdown(mode Mode) error {
	if mode == Immediate {
		return p.cmd.Process.Signal(syscall.SIGQUIT)
	}
	return p.cmd.Process.Signal(syscall.SIGINT)
}

// lockFolder takes the lock of a temporary folder. It fails if it is taken.
func lockFolder(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// mine reports whether a file is the caller's own.
func mine(info fs.FileInfo) bool {
	return info.Sys().(*syscall.Stat_t).Uid == uint32(os.Geteuid())
}
