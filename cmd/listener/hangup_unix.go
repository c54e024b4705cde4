//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// catchHangups has SIGHUP arrive in a channel, in place of ending the process,
// until stop is called. outlives says that whoever started us wants the process to
// go on without its terminal, as nohup does.
func catchHangups() (hangups <-chan os.Signal, outlives bool, stop func()) {
	outlives = signal.Ignored(syscall.SIGHUP)
	c := make(chan os.Signal, 1) // of many at once, one more look is enough
	signal.Notify(c, syscall.SIGHUP)
	return c, outlives, func() { signal.Stop(c) }
}
