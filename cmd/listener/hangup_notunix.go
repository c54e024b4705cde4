//go:build !unix

package main

import "os"

// catchHangups returns a channel in which nothing arrives.
func catchHangups() (hangups <-chan os.Signal, outlives bool, stop func()) {
	return nil, false, func() {}
}
