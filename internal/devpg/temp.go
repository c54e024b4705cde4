package devpg

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// tempPrefix begins the name of each temporary folder.
const tempPrefix = "outbox-pg-"

// A tempDir holds a temporary data folder and a lock file. The lock is held
// for as long as the process lives that made it, so that a later one can tell
// which folders were left behind.
type tempDir struct {
	path string
	lock *os.File
}

// newTempDir makes a folder that who can enter, and removes what earlier
// processes of the same user have left.
func newTempDir(who *account) (*tempDir, error) {
	var refused error
	for _, parent := range tempParents() {
		if err := who.reaches(parent); err != nil {
			refused = err
			continue
		}
		removeStale(parent)
		path, err := os.MkdirTemp(parent, tempPrefix)
		if err != nil {
			refused = err
			continue
		}
		d := &tempDir{path: path}
		if err := os.Chmod(path, 0o711); err != nil {
			d.remove()
			return nil, err
		}
		if d.lock, err = lockFolder(path); err != nil {
			d.remove()
			return nil, err
		}
		return d, nil
	}
	return nil, fmt.Errorf("no folder for temporary data: %w", refused)
}

// tempParents returns where to make temporary folders, best first. The user's
// own may lie where the server's account cannot go.
func tempParents() []string {
	if runtime.GOOS == "windows" {
		return []string{os.TempDir()}
	}
	return []string{os.TempDir(), "/tmp", "/var/tmp"}
}

func (d *tempDir) remove() error {
	if d == nil {
		return nil
	}
	if d.lock != nil {
		d.lock.Close()
		d.lock = nil
	}
	// Sessions of a killed server may still be writing.
	var err error
	for range 50 {
		if err = os.RemoveAll(d.path); err == nil {
			return nil
		}
		time.Sleep(pollInterval)
	}
	return err
}

// removeStale removes folders that no living process holds. A folder younger
// than a minute is spared: its lock may be about to be taken.
func removeStale(parent string) {
	paths, err := filepath.Glob(filepath.Join(parent, tempPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || !mine(info) || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		if lock, err := lockFolder(path); err == nil {
			lock.Close()
			os.RemoveAll(path) // what is left is for the next one
		}
	}
}
