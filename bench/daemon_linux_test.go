package bench

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// TestComputed holds what the threads' schedstat say against the kernel's own sum
// for a process, which for ourselves can be had otherwise.
func TestComputed(t *testing.T) {
	spent := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	first, err := computed(os.Getpid())
	if err == errNoSchedstat {
		t.Skip(err)
	}
	begun := spent()
	if err != nil {
		t.Fatal(err)
	}
	for spent()-begun < 300*time.Millisecond {
	}
	last, err := computed(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := last-first, spent()-begun; got < want*9/10 || got > want*11/10+20*time.Millisecond {
		t.Errorf("by schedstat %s, by getrusage %s", got, want)
	}
}
