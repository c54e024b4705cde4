//go:build !unix

package main

import "io"

// inJournal reports whether w is a stream to the systemd journal.
func inJournal(io.Writer, string) bool { return false }
