package listener

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// spoolDir is a directory of spools. Each stop that needs one writes a file under a
// name of its own, so that several listeners may have one directory: what two of
// them replay at once is the same record, and its fence sees to it that it is
// written once.
type spoolDir string

const (
	spoolPattern = "outcomes-*.jsonl"
	spoolAside   = ".refused" // is put behind the name of what cannot be taken
)

// write keeps records until the next start and returns the path of the file. It
// is on disk, whole, or not there.
func (d spoolDir) write(database string, records []spooled) (path string, err error) {
	path = filepath.Join(string(d), "outcomes-"+uuid.NewString()+".jsonl")
	temp := path + ".tmp"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp) // the error says more
		}
	}()
	w := bufio.NewWriter(f)
	err = writeSpool(w, database, records)
	if err = errors.Join(err, w.Flush()); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if err = os.Rename(temp, path); err != nil {
		return "", err
	}
	if err := d.sync(); err != nil {
		return path, err
	}
	failpoint.Hit("K20a")
	return path, nil
}

// sync has the names of the directory on disk. Windows has them there by itself.
func (d spoolDir) sync() error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// probe says whether a file can be written.
func (d spoolDir) probe() error {
	f, err := os.CreateTemp(string(d), "probe-*.tmp")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// list returns the paths of what is to be replayed.
func (d spoolDir) list() ([]string, error) {
	if _, err := os.Stat(string(d)); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(quoteGlob(string(d)), spoolPattern))
}

// quoteGlob has each character of a path stand for itself.
func quoteGlob(path string) string {
	if runtime.GOOS == "windows" { // where nothing can be quoted, nor are the others usual
		return path
	}
	var out []byte
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[', '\\':
			out = append(out, '\\')
		}
		out = append(out, path[i])
	}
	return string(out)
}

// read reads one of them. It has to be a file of ours alone: who can write it says
// what was sent.
func (d spoolDir) read(path, database string) ([]spooled, []refusedLine, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, nil, errors.New("it is not a file")
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return nil, nil, fmt.Errorf("others may read or write it (mode %04o; it should be 0600)", info.Mode().Perm())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	return readSpool(f, database)
}

// remove drops what is on record by now. Another listener may have done so.
func (d spoolDir) remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.sync()
}

// setAside keeps a file under a name that no start looks for.
func (d spoolDir) setAside(path string) (string, error) {
	aside := path + spoolAside
	if err := os.Rename(path, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	return aside, d.sync()
}
