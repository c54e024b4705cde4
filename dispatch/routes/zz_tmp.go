package routes

import (
	"time"
)

func readFile(source []byte, f *findings) *file { return nil }
func parseSpan(s string) (time.Duration, error) { return time.ParseDuration(s) }
