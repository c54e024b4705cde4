package listener_test

import (
	"fmt"
	"testing"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// exampleDatabase returns a migrated database of its own.
func exampleDatabase() (url string, drop func()) {
	t := new(noTest)
	return pgtest.New(t).URL, func() {
		for i := len(t.cleanups) - 1; i >= 0; i-- {
			t.cleanups[i]()
		}
	}
}

// noTest is the testing.TB of an example, which is given none. It has what
// pgtest uses; anything else panics.
type noTest struct {
	testing.TB
	cleanups []func()
}

func (t *noTest) Helper()                   {}
func (t *noTest) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *noTest) Error(args ...any)         { panic(fmt.Sprint(args...)) }
func (t *noTest) Errorf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (t *noTest) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (t *noTest) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
