//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// catchHangups has SIGHUP arrive in a channel, in place of ending the process,
// until stop is called.
func catchHangups() (hangups <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1) // of many at once, one more look is enough
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
