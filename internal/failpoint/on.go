//go:build failpoint && unix

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Enabled says whether this build has failpoints.
const Enabled = true

// Env is the variable that says what happens where: NAME=ACTION or
// NAME=ACTION@N, separated by commas. The action happens at the Nth time that
// the point is reached, the first where N is missing, and never again.
//
//	kill      the process ends as by SIGKILL
//	stop      it stands still as by SIGSTOP, until somebody sends SIGCONT
//	panic     a panic in the goroutine that is there
//	sleep:5s  that goroutine waits
const Env = "OUTBOX_FAILPOINT"

// point is what happens at one point.
type point struct {
	action string
	sleep  time.Duration
	at     int64
	hits   atomic.Int64
}

var points = mustParse(os.Getenv(Env))

func mustParse(text string) map[string]*point {
	m, err := parse(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, Env+":", err)
		os.Exit(2)
	}
	return m
}

// parse reads the value of Env.
func parse(text string) (map[string]*point, error) {
	m := map[string]*point{}
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		name, rest, _ := strings.Cut(item, "=")
		action, n, counted := strings.Cut(rest, "@")
		p := &point{action: action, at: 1}
		if counted {
			var err error
			if p.at, err = strconv.ParseInt(n, 10, 64); err != nil || p.at < 1 {
				return nil, fmt.Errorf("%q: after @ stands a number from 1", item)
			}
		}
		if d, ok := strings.CutPrefix(action, "sleep:"); ok {
			var err error
			if p.sleep, err = time.ParseDuration(d); err != nil {
				return nil, fmt.Errorf("%q: after sleep: stands a duration", item)
			}
			p.action = "sleep"
		}
		switch p.action {
		case "kill", "stop", "panic", "sleep":
		default:
			return nil, fmt.Errorf("%q: the action is none of kill, stop, panic and sleep:DURATION", item)
		}
		m[name] = p
	}
	return m, nil
}

// Hit does what Env says of the point with this name. Before it does, it says so
// in a line on stderr: "failpoint K6 kill".
func Hit(name string) {
	p := points[name]
	if p == nil || p.hits.Add(1) != p.at {
		return
	}
	fmt.Fprintln(os.Stderr, "failpoint", name, p.action)
	switch p.action {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // there is no way to fail
		select {}
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "sleep":
		time.Sleep(p.sleep)
	case "panic":
		panic("failpoint " + name)
	}
}
