package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ticks are what the machine's processors have done so far, all of them
// together, in the ticks of /proc/stat, which are 10 ms.
type ticks struct{ idle, all int64 }

// processors reads them; errNoProc where the system does not tell.
func processors() (ticks, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return ticks{}, errNoProc
	}
	return parseTicks(string(b))
}

// parseTicks reads the first line of /proc/stat: "cpu", and then the ticks of
// user, nice, system, idle, iowait, irq, softirq and steal. What follows are parts
// of user and nice.
func parseTicks(stat string) (t ticks, err error) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return t, fmt.Errorf("/proc/stat begins with %q", line)
	}
	for i, field := range f[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return t, fmt.Errorf("/proc/stat: %w", err)
		}
		t.all += n
		if i == 3 {
			t.idle = n
		}
	}
	return t, nil
}

// since is what was done after before.
func (t ticks) since(before ticks) ticks { return ticks{t.idle - before.idle, t.all - before.all} }

// plus is the sum of both.
func (t ticks) plus(more ticks) ticks { return ticks{t.idle + more.idle, t.all + more.all} }

// idleShare is the part of the time in which the processors had nothing to do, nor
// anything that waited for a disk, in percent. It is NaN where no tick passed.
func (t ticks) idleShare() float64 { return 100 * float64(t.idle) / float64(t.all) }
