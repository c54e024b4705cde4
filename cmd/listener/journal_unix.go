//go:build unix

package main

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// inJournal reports whether w is the very stream that JOURNAL_STREAM names:
// processes that were started by a unit's process inherit the variable, but
// not always the stream.
func inJournal(w io.Writer, stream string) bool {
	f, ok := w.(*os.File)
	if !ok || stream == "" {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
