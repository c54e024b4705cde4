package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine is where and with what a run was made. Entries that this system
// does not tell are "unknown".
type machine struct {
	date     time.Time
	cpu      string
	cores    int
	memory   string
	kernel   string
	load     string // averages over 1, 5 and 15 minutes, at the start
	goes     string // version of Go
	postgres string
	commit   string // short
	dirty    bool   // with changes that are not committed
}

// busy reports whether other work had a good part of the machine of late.
func (m machine) busy() bool {
	one, _, _ := strings.Cut(m.load, ",")
	load, err := strconv.ParseFloat(one, 64)
	return err == nil && load > float64(m.cores)/2
}

func describeMachine(ctx context.Context, r *run) machine {
	m := machine{
		date:   time.Now(),
		cpu:    "unknown",
		cores:  runtime.NumCPU(),
		memory: "unknown",
		kernel: runtime.GOOS + "/" + runtime.GOARCH,
		goes:   runtime.Version(),
	}
	if v := lineAfter("/proc/cpuinfo", "model name"); v != "" {
		m.cpu = v
	}
	if kb, err := strconv.Atoi(strings.TrimSuffix(lineAfter("/proc/meminfo", "MemTotal"), " kB")); err == nil {
		m.memory = fmt.Sprintf("%.1f GiB", float64(kb)/(1<<20))
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.kernel = "Linux " + strings.TrimSpace(string(b)) + " " + runtime.GOARCH
	}
	m.load = load()
	m.commit, m.dirty = commit(ctx, r)
	return m
}

// load returns the load averages, or "unknown".
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(b)); err == nil && len(f) >= 3 {
		return strings.Join(f[:3], ", ")
	}
	return "unknown"
}

// settlesWithin is how long a run waits for the machine to be quiet. The load average of a
// minute falls to a third in each minute that nothing is done.
const settlesWithin = 5 * time.Minute

// awaitQuiet returns m once the machine is not busy any more, with the load of that moment, or when
// settlesWithin is over. What was built for the run is a reason for it to be busy.
func (m machine) awaitQuiet(ctx context.Context, r *run) machine {
	begun := time.Now()
	for m.load = load(); m.busy() && ctx.Err() == nil && time.Since(begun) < settlesWithin; m.load = load() {
		if time.Since(begun) < time.Second {
			r.say("waiting for the machine to be quiet (load %s), for %s at most", m.load, settlesWithin)
		}
		_, _ = pauseUntil(ctx, 2*time.Second, nil) // the loop sees why it ended
	}
	return m
}

// commit asks git, and where that knows nothing the program's own version
// has to do. Reports are no change.
func commit(ctx context.Context, r *run) (name string, dirty bool) {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=10", "HEAD").Output()
	if err != nil {
		if r.Version == "" {
			return "unknown", false
		}
		return r.Version, false
	}
	args := []string{"status", "--porcelain", "--", "."}
	if filepath.IsLocal(r.Out) { // git refuses to hear of others
		args = append(args, ":(exclude)"+filepath.ToSlash(r.Out))
	}
	status, err := exec.CommandContext(ctx, "git", args...).Output()
	return strings.TrimSpace(string(out)), err != nil || len(status) > 0
}

// lineAfter returns what stands after "name:" in the first such line of a file.
func lineAfter(path, name string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if key, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
