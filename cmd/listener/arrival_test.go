package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// world is a database and a stand-in for each provider.
type world struct {
	db      *pgtest.DB
	twilio  *standin.Twilio
	smtp    *standin.SMTP
	webhook *standin.Webhook
	env     map[string]string // for listeners
}

const standinSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, pgtest.New(t))
}

// newWorldOn is newWorld with this database.
func newWorldOn(t testing.TB, db *pgtest.DB) *world {
	t.Helper()
	w := &world{db: db}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	w.twilio, err = standin.NewTwilio("ACstandin", "standin-token")
	must(err)
	t.Cleanup(func() { _ = w.twilio.Close() })
	w.smtp, err = standin.NewSMTP(standin.SMTPOptions{})
	must(err)
	t.Cleanup(func() { _ = w.smtp.Close() })
	w.webhook, err = standin.NewWebhook(standinSecret)
	must(err)
	t.Cleanup(func() { _ = w.webhook.Close() })
	w.env = map[string]string{
		"DATABASE_URL":               w.db.URL,
		"OUTBOX_POLL_INTERVAL_MS":    "1000",
		"OUTBOX_LOG_LEVEL":           "warn",
		"TWILIO_ACCOUNT_SID":         "ACstandin",
		"TWILIO_AUTH_TOKEN":          "standin-token",
		"TWILIO_FROM":                "+15005550006",
		"TWILIO_API_BASE_URL":        w.twilio.URL(),
		"SMTP_HOST":                  w.smtp.Host(),
		"SMTP_PORT":                  strconv.Itoa(w.smtp.Port()),
		"SMTP_FROM":                  "shop@example.com",
		"OUTBOX_WEBHOOK_SECRET":      standinSecret,
		"OUTBOX_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
	}
	return w
}

// insertAll commits n events of the three channels from 8 writers at once,
// rolls every tenth transaction back, and returns the numbers of those that
// were committed, by channel. The number of an event stands in its content.
func (w *world) insertAll(t testing.TB, n int) map[dispatch.Channel]map[int]bool {
	t.Helper()
	committed := map[dispatch.Channel]map[int]bool{}
	for _, ch := range providers {
		committed[ch] = map[int]bool{}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for writer := range 8 {
		wg.Go(func() {
			for i := writer; i < n; i += 8 {
				ch := providers[i%3]
				payload := map[dispatch.Channel]string{
					dispatch.ChannelSMS:     fmt.Sprintf(`{"to": "+15005550009", "body": "number #%d#"}`, i),
					dispatch.ChannelEmail:   fmt.Sprintf(`{"to": "ann@example.com", "subject": "hello", "text": "number #%d#"}`, i),
					dispatch.ChannelWebhook: fmt.Sprintf(`{"url": %q, "body": {"n": "number #%d#"}}`, w.webhook.URL(), i),
				}[ch]
				tx, err := w.db.Pool.Begin(t.Context())
				if err == nil {
					_, err = tx.Exec(t.Context(), `insert into outbox_events (type, payload) values ($1, $2::jsonb)`, string(ch)+".send", payload)
				}
				if err == nil && i%10 == 9 {
					err = tx.Rollback(t.Context())
				} else if err == nil {
					if err = tx.Commit(t.Context()); err == nil {
						mu.Lock()
						committed[ch][i] = true
						mu.Unlock()
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return committed
}

var numberIn = regexp.MustCompile(`#(\d+)#`)

// arrived returns how often each event arrived on each channel, by the id
// under which it did.
func (w *world) arrived(t testing.TB) map[dispatch.Channel]map[int]map[string]int {
	t.Helper()
	out := map[dispatch.Channel]map[int]map[string]int{}
	for ch, received := range map[dispatch.Channel][]standin.Received{
		dispatch.ChannelSMS: w.twilio.Received(), dispatch.ChannelEmail: w.smtp.Received(), dispatch.ChannelWebhook: w.webhook.Received(),
	} {
		out[ch] = map[int]map[string]int{}
		for _, r := range received {
			m := numberIn.FindStringSubmatch(r.Body)
			if m == nil {
				t.Fatalf("%s got something else: %q", ch, r.Body)
			}
			n, _ := strconv.Atoi(m[1]) // digits, by the pattern
			if out[ch][n] == nil {
				out[ch][n] = map[string]int{}
			}
			out[ch][n][r.ID]++
		}
	}
	return out
}

// eventCount is how many events the arrival tests insert: fewer than
// OUTBOX_TEST_EVENTS asks for in the recorded runs of docs/evidence.
func eventCount(t testing.TB, otherwise int) int {
	if s := os.Getenv("OUTBOX_TEST_EVENTS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("OUTBOX_TEST_EVENTS=%s: %v", s, err)
		}
		return n
	}
	return otherwise
}

// TestEveryEventArrivesOnce: three channels, eight writers, two processes.
func TestEveryEventArrivesOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 2 {
		startListener(t, w.env)
	}
	begun := time.Now()
	committed := w.insertAll(t, eventCount(t, 2000))
	pgtest.Drains(t, 30*time.Second, "events are not processed", func() int { return open(t, w.db) })
	took := time.Since(begun)
	total := 0
	for ch, arrived := range w.arrived(t) {
		for n, ids := range arrived {
			if !committed[ch][n] {
				t.Errorf("%s: event %d arrived and was never committed", ch, n)
			}
			if len(ids) != 1 || sum(ids) != 1 {
				t.Errorf("%s: event %d arrived as %v", ch, n, ids)
			}
		}
		for n := range committed[ch] {
			if arrived[n] == nil {
				t.Errorf("%s: event %d never arrived", ch, n)
			}
		}
		total += len(committed[ch])
	}
	if n := pgtest.QueryVal[int](t, w.db, `select count(*) from outbox.deliveries where state = 'delivered' and attempts = 1`); n != total {
		t.Errorf("%d delivered at the first attempt in the ledger, want %d", n, total)
	}
	t.Logf("%d events arrived once each, in %s", total, took.Round(time.Millisecond))
}

// TestKilledAgainAndAgain: of two processes one is killed without warning and
// started again every 300 ms. Nothing is lost, no webhook and no e-mail
// arrives under two ids, and no SMS arrives twice: Twilio is asked for one that may
// have been sent, and where it does not have it, it is asked again for a minute and
// then held.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := maps.Clone(w.env)
	env["OUTBOX_LEASE"] = "2s"
	env["OUTBOX_MAX_CRASHES"] = "0" // no event is the reason of these
	env["OUTBOX_POLL_INTERVAL_MS"] = "300"
	startListener(t, env)

	ctx, stopKilling := context.WithCancel(t.Context())
	kills := 0
	var killer sync.WaitGroup
	killer.Go(func() {
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			p := startListener(t, env)
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
			_ = p.cmd.Process.Kill() // a process that ended by itself shows below
			<-p.ended
			kills++
		}
	})
	committed := w.insertAll(t, eventCount(t, 2000))
	// An SMS that Twilio does not have waits, in the end for a person; everything
	// else must finish.
	fewerThan := func(limit int) func() (bool, string) {
		return func() (bool, string) {
			open := pgtest.QueryVal[int](t, w.db, `select count(*) from outbox_events as e where processed_at is null
				and not exists (select from outbox.deliveries as d where d.event_seq = e.seq and d.state in ('held', 'uncertain')
					and jsonb_array_length(d.looks) > 0 and d.channel = 'sms')`)
			return open < limit, fmt.Sprintf("%d events are open", open)
		}
	}
	pgtest.Eventually(t, 3*time.Minute, fewerThan(50))
	stopKilling()
	killer.Wait()
	// A retry after a connection that died under a killed process may be
	// due in a while; its time is not what this test is about.
	pgtest.Exec(t, w.db, `update outbox.deliveries set due_at = now() where state in ('retry', 'uncertain') and looks is null`)
	pgtest.Eventually(t, time.Minute, fewerThan(1))

	held := map[int]bool{}
	for _, content := range pgtest.QueryVals[string](t, w.db, `select content->>'body' from outbox.deliveries where state in ('held', 'uncertain')`) {
		n, _ := strconv.Atoi(numberIn.FindStringSubmatch(content)[1]) // digits, by the pattern
		held[n] = true
	}
	again := map[dispatch.Channel]int{}
	for n := range held {
		if w.arrived(t)[dispatch.ChannelSMS][n] != nil {
			t.Errorf("SMS %d arrived, and the list says so, and it waits", n)
		}
	}
	for ch, arrived := range w.arrived(t) {
		for n, ids := range arrived {
			if !committed[ch][n] {
				t.Errorf("%s: event %d arrived and was never committed", ch, n)
			}
			if len(ids) != 1 {
				t.Errorf("%s: event %d arrived under %d ids: %v", ch, n, len(ids), ids)
			}
			if ch == dispatch.ChannelSMS && sum(ids) != 1 {
				t.Errorf("SMS %d was sent twice: %v", n, ids)
			}
			again[ch] += sum(ids) - 1
		}
		for n := range committed[ch] {
			if arrived[n] == nil && !(ch == dispatch.ChannelSMS && held[n]) {
				t.Errorf("%s: event %d is lost", ch, n)
			}
		}
	}
	if bad := pgtest.QueryVals[string](t, w.db, `select state || ': ' || coalesce(last_error, '') from outbox.deliveries where state not in ('delivered', 'held', 'uncertain')`); len(bad) > 0 {
		t.Errorf("%d deliveries failed: %v", len(bad), bad)
	}
	if kills < 3 {
		t.Errorf("only %d kills", kills)
	}
	t.Logf("%d kills; %d SMS not taken, and held or about to be; sent again under the same id: %v", kills, len(held), again)
}

func sum(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}
