//go:build unix

package faultrig

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// TestTermAtFailpoints: a listener that is told to stop while one of its goroutines
// is at a failpoint ends with code 0 and leaves nothing leased, and what it did not
// do is done by the next one, once. Where nobody says how many runs there are to be, those
// are tried that chance picks for the first 8 s. K19 is not among them, since a migration
// is no daemon, nor is K20, which comes at a stop and before the first claim, and is
// TestKept's.
func TestTermAtFailpoints(t *testing.T) {
	t.Parallel()
	all := newWorlds(t)
	w := all.get(t)
	t.Cleanup(func() { all.put(w) })
	names := []string{"K17"}
	for _, f := range failpoints {
		names = append(names, f.name)
	}
	left := &budget{most: shortRuns}
	if *runsFlag > 0 {
		left.most = 0
	}
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] }) // so that each has its turn
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left.spend(t)
			c := newCounters(t)
			if name == "K14a" || name == "K14b" {
				var once sync.Once // the answer to the first SMS is lost
				c.twilio.Script(func(int, *http.Request) (r standin.TwilioReply) {
					once.Do(func() { r.CutAfter = true })
					return r
				})
			}
			l := newLane(t, w, laneConfig{lease: 3 * time.Second, poll: 200 * time.Millisecond, grace: 10 * time.Second, more: c.env})
			if name == "K13" {
				l.hook.took = 1500 * time.Millisecond // leases are renewed after a third
			}
			d := l.add(t)
			insert := func() {
				t.Helper()
				_, err := l.pool.Exec(t.Context(), termEvents, l.hook.url)
				if err != nil {
					t.Fatal(err)
				}
			}
			reached := l.lines.next("failpoint " + name + " sleep")
			at := name + "=sleep:300ms"
			if name == "K1" {
				insert()
				d.next(at)
			} else {
				l.start(t, d, at)
				insert()
			}
			if name == "K17" { // which is at a stop
				if err := l.done(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				l.await(t, reached, "line of the failpoint")
			}
			d.mu.Lock()
			cmd := d.cmd
			d.mu.Unlock()
			if cmd == nil {
				t.Fatal("the process has ended before it was told to")
			}
			process, _, _ := d.terminate()
			if name == "K17" {
				l.await(t, reached, "line of the failpoint")
			}
			if code := cmd.ProcessState.ExitCode(); code != 0 {
				status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
				t.Errorf("exit code %d, signal %v", code, status.Signal())
			}
			if n, err := l.leasedBy(t.Context(), process); err != nil || n != 0 {
				t.Errorf("%d rows are leased: %v", n, err)
			}
			l.start(t, d, "")
			if err := l.done(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, want := c.arrived(l), fmt.Sprintf("%d webhooks, %d mails, %d SMS", 2, 2, 2); got != want {
				t.Errorf("arrived: %s; want %s", got, want)
			}
		})
	}
}

// termEvents are two events of each kind, one in the words of a model. What a retention
// deletes is there in each lane.
const termEvents = `insert into public.outbox_events (type, payload)
	select 'webhook.send', jsonb_build_object('url', $1::text, 'body', 1)
	union all select 'note.written', jsonb_build_object('url', $1::text)
	union all select 'email.send', jsonb_build_object('to', 'ann@example.com', 'subject', 'hello', 'text', 'number ' || n) from generate_series(1, 2) as n
	union all select 'sms.send', jsonb_build_object('to', '+15005550009', 'body', 'number ' || n) from generate_series(1, 2) as n`

// termRoutes ask a model for the words of a webhook.
const termRoutes = `version: 1
routes:
  - name: note
    event: note.written
    copy:
      instructions: Write a line.
      facts: {event: '{{.event.id}}'}
      fields:
        line:
          max_chars: 60
          template: a line
    deliver:
      - name: tell
        webhook:
          url: '{{.payload.url}}'
          json: {line: '{{.copy.line}}'}
`

// done waits until nothing is left to do but what waits for a person since before the test.
func (l *lane) done(ctx context.Context) error {
	for deadline := time.Now().Add(patience); ; sleep(ctx, 10*time.Millisecond) {
		var left, open int
		err := l.pool.QueryRow(ctx, `select (select count(*) from outbox_events where processed_at is null and type <> 'old.held'),
			(select count(*) from outbox.deliveries where finished_at is null and event_type <> 'old.held')`).Scan(&left, &open)
		if err == nil && left+open == 0 {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("%d events and %d deliveries are left after %s: %v", left, open, patience, err)
		}
	}
}

// counters are providers of one lane, but for its receiver of webhooks.
type counters struct {
	twilio *standin.Twilio
	smtp   *standin.SMTP
	env    []string
}

func newCounters(t *testing.T) *counters {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var c counters
	var err error
	c.twilio, err = standin.NewTwilio(accountSID, authToken)
	must(err)
	t.Cleanup(func() { _ = c.twilio.Close() })
	c.smtp, err = standin.NewSMTP(standin.SMTPOptions{})
	must(err)
	t.Cleanup(func() { _ = c.smtp.Close() })
	model, err := standin.NewOpenAI(openAIKey)
	must(err)
	t.Cleanup(func() { _ = model.Close() })
	routes := filepath.Join(t.TempDir(), "routes.yaml")
	must(os.WriteFile(routes, []byte(termRoutes), 0o600))
	c.env = []string{
		"OUTBOX_ROUTES=" + routes, "OUTBOX_RETAIN_PROCESSED=30d",
		"TWILIO_ACCOUNT_SID=" + accountSID, "TWILIO_AUTH_TOKEN=" + authToken, "TWILIO_FROM=+15005550006", "TWILIO_API_BASE_URL=" + c.twilio.URL(),
		"SMTP_HOST=" + c.smtp.Host(), "SMTP_PORT=" + strconv.Itoa(c.smtp.Port()), "SMTP_FROM=shop@example.com",
		"OPENAI_API_KEY=" + openAIKey, "OPENAI_BASE_URL=" + model.URL(),
	}
	return &c
}

// arrived is what they and the lane's receiver took.
func (c *counters) arrived(l *lane) string {
	return fmt.Sprintf("%d webhooks, %d mails, %d SMS", l.hook.count(), len(c.smtp.Received()), len(c.twilio.Received()))
}
