//go:build unix

package faultrig

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/devpg"
)

// inflict has one fault happen, and returns when it is over.
func (r *run) inflict(ctx context.Context, f Planned) error {
	d := r.daemons[f.Target%len(r.daemons)]
	database, provider, channel := r.databases[f.Target%len(r.databases)], r.before[f.Target%len(r.before)], slices.Concat(channels, []string{models})[f.Target%len(r.before)]
	toDatabase := Fault{Kind: f.Kind, What: fmt.Sprintf("of d%d", d.number), Daemon: d.number}
	toProvider := Fault{Kind: f.Kind, What: "to " + channel, Daemon: Everyone, Channel: channel}
	during := func(one Fault, on, off func()) {
		done := r.faults.begin(one)
		on()
		sleep(ctx, f.For)
		off()
		done()
	}
	switch f.Kind {
	case Kill:
		d.kill(ctx, f.For, "")
	case Failpoint:
		d.kill(ctx, 0, f.Point)
	case Terminate:
		if f.Point != "" {
			d.kill(ctx, 0, f.Point)
			sleep(ctx, f.For)
		}
		name, asked, from := d.terminate()
		if name == "" {
			return nil
		}
		if !asked {
			r.leftLeased(ctx, d.number, name, from)
		}
		sleep(ctx, f.For)
		d.next("")
	case TerminateAway:
		if f.Point != "" {
			d.kill(ctx, 0, f.Point)
			sleep(ctx, 500*time.Millisecond)
		}
		done := r.faults.begin(toDatabase)
		database.Refuse(true)
		sleep(ctx, f.For) // so that something is sent which cannot be recorded
		name, _, _ := d.terminate()
		database.Refuse(false)
		done()
		if name != "" { // otherwise somebody else is at it
			d.next(f.Next)
		}
	case KillAll:
		var wg sync.WaitGroup
		for _, d := range r.daemons {
			wg.Go(func() { d.kill(ctx, f.For, "") })
		}
		wg.Wait()
	case Stop:
		d.stop(ctx, f.For)
	case RestartFast, RestartCrash:
		mode := devpg.Fast
		if f.Kind == RestartCrash {
			mode = devpg.Immediate
		}
		done := r.faults.begin(Fault{Kind: f.Kind, Daemon: Everyone})
		defer done()
		return r.world.server.Restart(ctx, mode)
	case CutDatabase:
		during(toDatabase, database.Reset, func() {})
	case SwallowDatabase:
		during(toDatabase, func() { database.Swallow(true) }, func() { database.Swallow(false) })
	case LimitDatabase:
		during(toDatabase, func() { database.CutAnswers(f.Bytes) }, database.Heal)
	case SlowDatabase:
		during(toDatabase, func() { database.Latency(50 * time.Millisecond) }, func() { database.Latency(0) })
	case CutProvider:
		during(toProvider, provider.Reset, func() {})
	case SwallowProvider:
		during(toProvider, func() { provider.Swallow(true) }, func() { provider.Swallow(false) })
	case LimitProvider:
		during(toProvider, func() { provider.CutAnswers(f.Bytes) }, provider.Heal)
	case SlowProvider:
		during(toProvider, func() { provider.Latency(farAway) }, func() { provider.Latency(0) })
	}
	return nil
}

//go:embed leased.sql
var leased string

// leftLeased looks whether a listener that ended after SIGTERM has left something
// leased. It may where the database was not to be had for it since then.
func (r *run) leftLeased(ctx context.Context, daemon int, name string, from time.Time) {
	call, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var n int
	if err := r.pool.QueryRow(call, leased, name).Scan(&n); err != nil || n == 0 {
		return // an error is that of a fault
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.terminated = append(r.terminated, leftover{daemon: daemon, name: name, rows: n, from: from, to: time.Now()})
}

// leftover is what a listener left leased that ended between two moments.
type leftover struct {
	daemon   int
	name     string
	rows     int
	from, to time.Time
}

// unexplained says which of what was left has no fault beside it that kept the
// database away.
func (r *run) unexplained() (exits []string) {
	slack := r.plan.slack()
	for _, l := range r.terminated {
		away := slices.ContainsFunc(r.faults.all(), func(f Fault) bool {
			return f.Kind != Terminate && f.Channel == "" && (f.Daemon == Everyone || f.Daemon == l.daemon) &&
				!f.From.Add(-slack).After(l.to) && !f.To.Add(slack).Before(l.from)
		})
		if !away {
			exits = append(exits, fmt.Sprintf("%s ended after SIGTERM and left %d rows leased", l.name, l.rows))
		}
	}
	return exits
}
