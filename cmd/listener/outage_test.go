package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/internal/evidence"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

var (
	outageFlag  = flag.Duration("outage", 0, "how long the receiver of webhooks is down in TestOutage; 0 is 5 s, and without limits that need a machine of its own")
	backlogFlag = flag.Int("backlog", 1000, "how many webhooks are inserted meanwhile")
	outagePage  = flag.String("outage-page", "", "a file that gets the counts, as Markdown")
)

const (
	outageDaemons  = 3
	outageRetry    = 2 * time.Second // what the receiver asks for
	outageLearning = time.Second     // after which every listener has to know
	trickleEvery   = 50 * time.Millisecond
	outageBin      = 100 * time.Millisecond
	outageDone     = 99 // percent of the backlog, up to which its pace counts: the rest are those that failed and have waits of their own
)

// outage is a run: a receiver of webhooks that is well, then down, then well,
// beside e-mails that have nothing to do with it.
type outage struct {
	w        *world
	pool     *pgxpool.Pool
	length   time.Duration
	backlog  int
	duration time.Duration // of what comes before, by which the rest is measured

	mu       sync.Mutex
	calls    []time.Time
	refused  []time.Time
	accepted []time.Time
	sent     map[int]time.Time // e-mails, when they were about to be inserted
	arrived  map[int]time.Time
	down     bool
	tricks   int
}

// hooks inserts n webhooks evenly over d.
func (o *outage) hooks(ctx context.Context, n int, d time.Duration) error {
	begun := time.Now()
	for done := 0; done < n && ctx.Err() == nil; {
		due := min(int(float64(n)*time.Since(begun).Seconds()/d.Seconds())+1, n)
		if due > done {
			_, err := o.pool.Exec(ctx, `insert into outbox_events (type, payload)
				select 'webhook.send', jsonb_build_object('url', $1::text, 'body', '{"n": 1}'::jsonb) from generate_series(1, $2::integer)`, o.w.webhook.URL(), due-done)
			if err != nil {
				return err
			}
			done = due
		}
		time.Sleep(10 * time.Millisecond) // a pace, and nothing is waited for
	}
	return ctx.Err()
}

// trickle inserts an e-mail every now and then until ctx ends.
func (o *outage) trickle(ctx context.Context) error {
	tick := time.NewTicker(trickleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		o.mu.Lock()
		n := o.tricks
		o.tricks++
		o.sent[n] = time.Now()
		o.mu.Unlock()
		_, err := o.pool.Exec(context.WithoutCancel(ctx), `insert into outbox_events (type, payload) values ('email.send', $1::jsonb)`,
			fmt.Sprintf(`{"to": "ann@example.com", "subject": "hello", "text": "number #%d#"}`, n))
		if err != nil {
			return err
		}
	}
}

// trickling does so beside t, until stop is called, or t ends.
func (o *outage) trickling(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		if err := o.trickle(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() {
		cancel()
		work.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// watchMail notes when e-mails arrive.
func (o *outage) watchMail() {
	o.w.smtp.OnReceive(func(r standin.Received) {
		if m := numberIn.FindStringSubmatch(r.Body); m != nil {
			var n int
			_, _ = fmt.Sscan(m[1], &n) // digits, by the pattern
			o.mu.Lock()
			o.arrived[n] = time.Now()
			o.mu.Unlock()
		}
	})
}

// answer is what the receiver does with a webhook.
func (o *outage) answer(int, *http.Request) standin.HTTPReply {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.calls = append(o.calls, now)
	if !o.down {
		o.accepted = append(o.accepted, now)
		return standin.HTTPReply{}
	}
	o.refused = append(o.refused, now)
	status := http.StatusServiceUnavailable
	if len(o.refused)%2 == 0 {
		status = http.StatusTooManyRequests
	}
	return standin.HTTPReply{Status: status, Header: http.Header{"Retry-After": {fmt.Sprint(int(outageRetry.Seconds()))}}}
}

// within counts those of times that are within a span.
func within(times []time.Time, from, to time.Time) (n int) {
	for _, t := range times {
		if !t.Before(from) && t.Before(to) {
			n++
		}
	}
	return n
}

// p99 is that of the e-mails that were inserted within a span.
func (o *outage) p99(from, to time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	var took []time.Duration
	for n, at := range o.sent {
		if arrived, ok := o.arrived[n]; ok && !at.Before(from) && at.Before(to) {
			took = append(took, arrived.Sub(at))
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[(len(took)*99-1)/100]
}

// outageCounts are what a run came to.
type outageCounts struct {
	deliveries, calls, refused int
	amplification              float64
	learning, early            int // calls before the time that was asked for: within the first second, and later
	drained                    time.Duration
	mean, most                 float64 // accepted in outageBin, until it was drained
	bins                       []int
	normal, during, recovery   time.Duration // p99 of the e-mails
	lines                      map[string]int
	busiest                    int // lines of one cause from one process in one second, but for the first
	first                      int // the same of the first second
	total                      int
}

// TestOutage: while a receiver is down for a while, it is called hardly more often than
// there are deliveries for it, and never before it wants to be; the backlog goes out
// evenly when it is back; and nobody else notices.
func TestOutage(t *testing.T) {
	t.Parallel()
	long := *outageFlag > 0
	o := &outage{w: newWorld(t), length: *outageFlag, backlog: *backlogFlag, duration: 20 * time.Second, sent: map[int]time.Time{}, arrived: map[int]time.Time{}}
	if !long {
		o.length, o.duration = 5*time.Second, 2*time.Second
	}
	o.pool = o.w.db.Pool
	o.w.webhook.Script(o.answer)
	o.watchMail()
	o.w.env["OUTBOX_LOG_LEVEL"] = "info"
	var procs []*proc
	for range outageDaemons {
		p := startListener(t, o.w.env)
		p.ready()
		procs = append(procs, p)
	}

	stop := o.trickling(t)
	perSecond := float64(o.backlog) / o.length.Seconds()
	before := int(perSecond * o.duration.Seconds())
	if err := o.hooks(t.Context(), before, o.duration); err != nil { // the first time of all is slower
		t.Fatal(err)
	}
	normal := time.Now()
	usual := before
	if long { // as long as the outage: the slowest of a hundred is compared
		usual = o.backlog
	}
	if err := o.hooks(t.Context(), usual, max(o.duration, *outageFlag)); err != nil {
		t.Fatal(err)
	}
	down := time.Now()
	o.mu.Lock()
	o.down = true
	o.mu.Unlock()
	if err := o.hooks(t.Context(), o.backlog, o.length); err != nil {
		t.Fatal(err)
	}
	up := time.Now()
	o.mu.Lock()
	o.down = false
	o.mu.Unlock()
	left := func(most int) func() int {
		return func() int {
			o.mu.Lock()
			defer o.mu.Unlock()
			return max(before+usual+o.backlog-len(o.accepted)-most, 0)
		}
	}
	o.mu.Lock()
	failed := len(o.refused)
	o.mu.Unlock()
	pgtest.Drains(t, 30*time.Second, "webhooks have not arrived", left(failed))
	// Those that were refused have waits of their own, as after any failure.
	pgtest.Exec(t, o.w.db, `update outbox.deliveries set due_at = now()
		where state = 'retry' and get_byte(uuid_send(claim), 6) >> 4 = 5`) // and nobody has them: judge_deliveries.sql
	pgtest.Drains(t, 30*time.Second, "webhooks have not arrived", left(0))
	stop()
	pgtest.Drains(t, 30*time.Second, "events are not processed", func() int { return open(t, o.w.db) })

	c := o.count(normal, down, up)
	o.lines(t, procs, down, up, c)
	t.Logf("%d webhooks waited: %d calls (%d refused), amplification %.4f; %d calls too early in the first second, %d later; drained in %s, %.1f in 100 ms, at most %.0f (%.2f times)",
		c.deliveries, c.calls, c.refused, c.amplification, c.learning, c.early, c.drained.Round(time.Millisecond), c.mean, c.most, c.most/c.mean)
	t.Logf("p99 of e-mails: %s before, %s during, %s after; log: %d lines, at most %d of one cause in a second (%d in the first): %v", c.normal, c.during, c.recovery, c.total, c.busiest, c.first, c.lines)
	t.Logf("accepted by 100 ms from recovery on: %v", c.bins)
	if c.amplification > 1.1 {
		t.Errorf("amplification %.4f", c.amplification)
	}
	if c.early > 0 {
		t.Errorf("%d calls before the time that the receiver asked for", c.early)
	}
	if c.busiest > 1 {
		t.Errorf("%d lines of one cause in a second", c.busiest)
	}
	twice := pgtest.QueryVal[int](t, o.w.db, `select count(*) from outbox.deliveries where channel = 'webhook' and state <> 'delivered'`)
	if ids := len(o.w.webhook.Received()); twice > 0 || ids != before+usual+o.backlog {
		t.Errorf("%d webhooks are not delivered; %d arrived, want %d", twice, ids, before+usual+o.backlog)
	}
	if long {
		if c.most > 3*c.mean {
			t.Errorf("%.0f in %s, the mean is %.1f", c.most, outageBin, c.mean)
		}
		if worst := max(c.during, c.recovery); worst > 2*c.normal {
			t.Errorf("p99 of e-mails %s, before it was %s", worst, c.normal)
		}
	}
	if *outagePage != "" {
		if err := os.WriteFile(*outagePage, []byte(o.page(t, c)), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// count says what came to the receivers.
func (o *outage) count(normal, down, up time.Time) *outageCounts {
	c := &outageCounts{lines: map[string]int{}}
	end := time.Now()
	c.normal, c.during, c.recovery = o.p99(normal, down), o.p99(down, up), o.p99(up, end)
	o.mu.Lock()
	defer o.mu.Unlock()
	c.calls, c.deliveries, c.refused = within(o.calls, down, end), within(o.accepted, down, end), len(o.refused)
	c.amplification = float64(c.calls) / float64(c.deliveries)
	if len(o.refused) > 0 {
		until := time.Time{}
		for _, at := range o.calls {
			switch {
			case at.Before(o.refused[0]) || !at.Before(until):
			case at.Sub(o.refused[0]) < outageLearning:
				c.learning++
			default:
				c.early++
			}
			if slices.Contains(o.refused, at) {
				until = at.Add(outageRetry)
			}
		}
	}
	var back []time.Time
	for _, at := range o.accepted {
		if !at.Before(up) {
			back = append(back, at)
		}
	}
	if len(back) == 0 {
		return c
	}
	slices.SortFunc(back, time.Time.Compare)
	back = back[:max(len(back)*outageDone/100, 1)]
	c.drained = back[len(back)-1].Sub(back[0])
	c.bins = make([]int, int(c.drained/outageBin)+1)
	for _, at := range back {
		c.bins[at.Sub(back[0])/outageBin]++
	}
	c.mean = float64(len(back)) / max(c.drained.Seconds()/outageBin.Seconds(), 1)
	c.most = float64(slices.Max(c.bins))
	return c
}

// lines counts what the listeners logged from down to up, but for what was
// delivered and what sums that up.
func (o *outage) lines(t *testing.T, procs []*proc, down, up time.Time, c *outageCounts) {
	t.Helper()
	for _, p := range procs {
		seconds := map[string]int{}
		for text := range strings.Lines(p.stdout.String()) {
			var line struct {
				Time    time.Time
				Msg     string
				Channel string
				Outcome string
			}
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Errorf("%v: %s", err, text)
				continue
			}
			if line.Time.Before(down) || !line.Time.Before(up) || line.Outcome == "delivered" || line.Msg == "batch" {
				continue
			}
			cause := strings.TrimSpace(line.Msg + " " + line.Channel + " " + line.Outcome)
			c.lines[cause]++
			c.total++
			second := line.Time.Sub(down) / time.Second
			key := fmt.Sprint(second, cause)
			seconds[key]++
			if second == 0 {
				c.first = max(c.first, seconds[key])
			} else {
				c.busiest = max(c.busiest, seconds[key])
			}
		}
	}
}

func (o *outage) page(t *testing.T, c *outageCounts) string {
	t.Helper()
	version := pgtest.QueryVal[string](t, o.w.db, `select current_setting('server_version')`)
	fsync := pgtest.QueryVal[string](t, o.w.db, `select current_setting('fsync')`)
	server, _, _ := strings.Cut(version, " ")
	var b strings.Builder
	fmt.Fprintf(&b, `# A provider that is down

What %[1]sjust outage%[1]s printed, %[2]s.
PostgreSQL %[3]s on the same machine (fsync %[4]s), %[5]d virtual cores.

%[6]d listener processes send webhooks to one receiver, %.0[7]f a second, and an e-mail every %[8]s. Then for %[9]s the receiver
answers 503 and 429 in turns, each with a Retry-After of %[10]s, while %[11]d more webhooks are inserted; and then it takes everything
again. The program is `+"`cmd/listener/outage_test.go`"+`; every run of the tests does the same with 5 s and 1,000 webhooks.

`, "`", evidence.Source(), server, fsync, runtime.NumCPU(), outageDaemons, float64(o.backlog)/o.length.Seconds(), trickleEvery,
		short(o.length), outageRetry, o.backlog)
	row := func(what, limit, was string) { fmt.Fprintf(&b, "| %s | %s | %s |\n", what, limit, was) }
	b.WriteString("| | at most | was |\n|---|---|---|\n")
	row("calls to the receiver from the outage on, for each webhook delivered", "1.1", fmt.Sprintf("%.4f (%d calls, %d of them refused, for %d webhooks)", c.amplification, c.calls, c.refused, c.deliveries))
	row("calls before the end of a Retry-After, in the first second after the first refusal", "", fmt.Sprint(c.learning))
	row("the same later", "0", fmt.Sprint(c.early))
	row(fmt.Sprintf("webhooks taken in %s after the recovery, until %d %% of the backlog were", outageBin, outageDone), "3 times the mean",
		fmt.Sprintf("%.0f, the mean is %.1f (%.2f times), within %s", c.most, c.mean, c.most/c.mean, c.drained.Round(10*time.Millisecond)))
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
	row("from the insert of an e-mail to its arrival, p99, before", "", ms(c.normal))
	row("the same during the outage", "twice that", ms(c.during))
	row("the same from the recovery on", "twice that", ms(c.recovery))
	row("log lines of one cause from one process in one second of the outage (but for `delivered` and `batch`)", "1", fmt.Sprintf("%d, and %d in the first second", c.busiest, c.first))
	row("log lines of all processes during the outage", "", fmt.Sprint(c.total))
	return b.String()
}
