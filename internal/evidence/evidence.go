// Package evidence says what the pages of docs/evidence were made from.
package evidence

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Source names the commit that runs, the tests' command line, Go and the day:
//
//	commit 1234abc, go1.26.8, 2026-12-01: `-test.run=TestModel -all`
//
// Changes that are not committed are said; without git the commit is unknown.
func Source() string {
	commit := "unknown"
	if out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
		// Other pages may be new; only what is built counts.
		if out, err := exec.Command("git", "status", "--porcelain", "--", ":/*.go", ":/*.sql", ":/go.mod").Output(); err != nil || len(out) > 0 {
			commit += " with changes"
		}
	}
	var args []string
	for _, a := range os.Args[1:] {
		switch name, _, _ := strings.Cut(strings.TrimLeft(a, "-"), "="); name {
		case "test.paniconexit0", "test.timeout", "test.v", "test.count", "test.testlogfile", "test.gocoverdir":
		default:
			args = append(args, a)
		}
	}
	return fmt.Sprintf("commit %s, %s, %s: `%s`", commit, runtime.Version(), time.Now().UTC().Format(time.DateOnly), strings.Join(args, " "))
}
