package listener_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// fallback is a step that is sent instead of the step text.
func fallback(terms dispatch.Terms) dispatch.Message {
	terms.InsteadOf, terms.Optional = "text", true
	return step("mail", terms)
}

// idOf waits for the delivery of a step that stands in the given state, and returns its id.
func idOf(t testing.TB, db *pgtest.DB, event uuid.UUID, step, state string) (id uuid.UUID) {
	t.Helper()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		err := db.Pool.QueryRow(t.Context(), `select id from outbox.deliveries where event_id = $1 and step = $2 and state = $3 order by generation desc limit 1`,
			event, step, state).Scan(&id)
		return err == nil, fmt.Sprintf("no %s that is %s: %v", step, state, states(t, db, event))
	})
	return id
}

// report has l note what became of a delivery.
func report(t testing.TB, l *listener.Listener, id uuid.UUID, fate dispatch.Fate) {
	t.Helper()
	if known, err := l.Report(t.Context(), dispatch.Report{Delivery: id, ProviderID: "taken-" + id.String()[:13], Fate: fate}); err != nil || !known {
		t.Fatalf("report: %t, %v", known, err)
	}
}

// mails counts what p was given of the step mail.
func mails(p *provider) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.sent {
		if d.Step == "mail" {
			n++
		}
	}
	return n
}

// TestInsteadOf: what becomes of a step that is sent where another does not arrive.
func TestInsteadOf(t *testing.T) {
	t.Parallel()
	const refused, throttled, unknown = dispatch.Rejected, dispatch.Throttled, dispatch.Unknown
	for _, tt := range []struct {
		name     string
		answer   dispatch.Kind // to the text; "": taken
		text     dispatch.Terms
		change   func(m *dispatch.Message) // of the text
		mail     dispatch.Terms
		patience time.Duration // 0: long
		state    string        // of the text, when reports begin
		reports  []dispatch.Fate
		cancel   bool // a person cancels the text
		want     string
		reason   string
	}{
		{name: "undelivered", state: "delivered", reports: []dispatch.Fate{"sent", "undelivered"}, want: "delivered"},
		{name: "failed, twice", state: "delivered", reports: []dispatch.Fate{"failed", "failed"}, want: "delivered"},
		{name: "arrived", state: "delivered", reports: []dispatch.Fate{"delivered"}, want: "skipped", reason: "the step text arrived"},
		{name: "arrived, reported in another order", state: "delivered", reports: []dispatch.Fate{"delivered", "sent", "undelivered"}, want: "skipped", reason: "the step text arrived"},
		{name: "withdrawn at the provider", state: "delivered", reports: []dispatch.Fate{"canceled"}, want: "skipped", reason: "was withdrawn"},
		{name: "no word", state: "delivered", patience: 300 * time.Millisecond, want: "skipped", reason: "no word came within 300ms"},
		{name: "no last word", state: "delivered", patience: 300 * time.Millisecond, reports: []dispatch.Fate{"sent"}, want: "skipped", reason: "no word came within"},
		{name: "its own deadline comes first", state: "delivered", mail: dispatch.Terms{Deadline: time.Now().Add(time.Second)}, want: "expired", reason: "its deadline passed first"},
		{name: "refused by the provider", answer: refused, state: "dead", want: "delivered"},
		{name: "no attempts left", answer: throttled, text: dispatch.Terms{Retry: dispatch.Retries{Attempts: 1}}, state: "dead", want: "delivered"},
		{name: "of unknown outcome, and undelivered", answer: unknown, text: dispatch.Terms{Retry: dispatch.Retries{OnUnknown: dispatch.NeverTwice}}, state: "dead", reports: []dispatch.Fate{"undelivered"}, want: "delivered"},
		{name: "of unknown outcome, and no word", answer: unknown, text: dispatch.Terms{Retry: dispatch.Retries{OnUnknown: dispatch.NeverTwice}}, patience: 300 * time.Millisecond, state: "dead", want: "skipped", reason: "no word came"},
		{name: "held, and reported", answer: unknown, text: dispatch.Terms{Retry: dispatch.Retries{OnUnknown: dispatch.Hold}}, state: "held", reports: []dispatch.Fate{"undelivered"}, want: "delivered"},
		{name: "held", answer: unknown, text: dispatch.Terms{Retry: dispatch.Retries{OnUnknown: dispatch.Hold}}, patience: 100 * time.Millisecond, state: "held", want: "scheduled"},
		{name: "tried again", answer: throttled, text: dispatch.Terms{Retry: dispatch.Retries{First: time.Hour}}, patience: 100 * time.Millisecond, state: "retry", want: "scheduled"},
		{name: "canceled by a person", answer: throttled, text: dispatch.Terms{Retry: dispatch.Retries{First: time.Hour}}, state: "retry", cancel: true, want: "skipped", reason: "was not sent (canceled)"},
		{name: "refused by the plan", change: func(m *dispatch.Message) { m.Refused = "no such number" }, state: "dead", want: "delivered"},
		{name: "nothing to send", change: func(m *dispatch.Message) { m.Skip = "nobody to send to" }, state: "skipped", want: "skipped", reason: "was not sent (skipped)"},
		{name: "late", change: func(m *dispatch.Message) { m.Terms.Late = "yesterday" }, state: "expired", want: "skipped", reason: "was not sent (expired)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			p := newProvider(func(d *dispatch.Delivery) error {
				if d.Step == "text" && tt.answer != "" {
					return &dispatch.Error{Kind: tt.answer}
				}
				return nil
			})
			r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
				text := step("text", tt.text)
				if tt.change != nil {
					tt.change(&text)
				}
				return []dispatch.Message{fallback(tt.mail), text}, nil
			}}
			l := newListener(t, db, routed(p, plain, r), func(c *listener.Config) { c.AwaitReport, c.PollInterval = tt.patience, 200*time.Millisecond })
			start(t, l)
			event := insert(t, db, "x", `{}`)
			id := idOf(t, db, event, "text", tt.state)
			for _, fate := range tt.reports {
				report(t, l, id, fate)
			}
			if tt.cancel {
				res, err := operate.New(db.Pool).Do(t.Context(), operate.Request{Action: operate.Cancel, Filter: operate.Filter{IDs: []uuid.UUID{id}}, By: operate.By{Who: "a test", Via: "command"}})
				if err != nil || res.Done != 1 {
					t.Fatalf("%+v, %v", res, err)
				}
			}
			mail := idOf(t, db, event, "mail", tt.want)
			reason := pgtest.QueryVal[string](t, db, `select coalesce(last_error, '') from outbox.deliveries where id = $1`, mail)
			if !strings.Contains(reason, tt.reason) || (reason == "") != (tt.reason == "") {
				t.Errorf("the reason is %q, want %q", reason, tt.reason)
			}
			if tt.state != "held" && tt.state != "retry" || tt.cancel || len(tt.reports) > 0 {
				processed(t, db, 5*time.Second)
			}
			if tt.want != "scheduled" { // nothing that comes later has it sent again, or at all
				report(t, l, id, "undelivered")
			}
			if _, err := l.Drain(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			if n, want := mails(p), map[bool]int{true: 1}[tt.want == "delivered"]; n != want {
				t.Errorf("the mail was sent %d times, want %d", n, want)
			}
		})
	}
}

// textAndMail plans a text, and a mail instead of it.
func textAndMail(key func(dispatch.Event) string) router {
	return router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
		return []dispatch.Message{step("text", dispatch.Terms{Supersedes: key(ev)}), fallback(dispatch.Terms{Supersedes: key(ev)})}, nil
	}}
}

func noKey(dispatch.Event) string { return "" }

// TestInsteadOfOutlivesItsListener: the listener that sent the text is gone. Word comes
// to one that never saw the event, and a third that knows of nothing sends the mail.
func TestInsteadOfOutlivesItsListener(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var all []*provider
	next := func() *listener.Listener {
		all = append(all, newProvider(nil))
		return newListener(t, db, routed(all[len(all)-1], plain, textAndMail(noKey)), func(c *listener.Config) { c.PollInterval = 100 * time.Millisecond })
	}
	first := next()
	stop := start(t, first)
	event := insert(t, db, "x", `{}`)
	id := idOf(t, db, event, "text", "delivered")
	processed(t, db, 5*time.Second) // it does not wait for the mail
	stop()
	wantStates(t, db, event, map[string]string{"text": "delivered", "mail": "scheduled"})
	report(t, next(), id, "undelivered") // and ends, without having run
	start(t, next())
	wantStates(t, db, event, map[string]string{"text": "delivered", "mail": "delivered"})
	if n := mails(all[2]); n != 1 {
		t.Errorf("the mail was sent %d times", n)
	}
}

// TestInsteadOfSuperseded: a newer event about the same cancels the mail of the older
// one, also where its text has left, and word of that text changes nothing.
func TestInsteadOfSuperseded(t *testing.T) {
	t.Parallel()
	db, p := pgtest.New(t), newProvider(nil)
	l := newListener(t, db, routed(p, plain, textAndMail(func(dispatch.Event) string { return "visit 7" })), nil)
	start(t, l)
	older := insert(t, db, "x", `{}`)
	id := idOf(t, db, older, "text", "delivered")
	newer := insert(t, db, "x", `{}`)
	wantStates(t, db, newer, map[string]string{"text": "delivered", "mail": "scheduled"})
	wantStates(t, db, older, map[string]string{"text": "delivered", "mail": "canceled"})
	report(t, l, id, "undelivered")
	report(t, l, idOf(t, db, newer, "text", "delivered"), "undelivered")
	wantStates(t, db, newer, map[string]string{"text": "delivered", "mail": "delivered"})
	wantStates(t, db, older, map[string]string{"text": "delivered", "mail": "canceled"})
	if n := mails(p); n != 1 {
		t.Errorf("%d mails were sent", n)
	}
}

// TestInsteadOfReplayed: what a person replays is sent whatever became of the text, with
// the bytes that it had, or where those are gone with those of today.
func TestInsteadOfReplayed(t *testing.T) {
	t.Parallel()
	for _, kept := range []bool{true, false} {
		db, p := pgtest.New(t), newProvider(nil)
		l := newListener(t, db, routed(p, plain, textAndMail(noKey)), func(c *listener.Config) { c.PollInterval = 100 * time.Millisecond })
		start(t, l)
		event := insert(t, db, "x", `{}`)
		report(t, l, idOf(t, db, event, "text", "delivered"), "delivered")
		mail := idOf(t, db, event, "mail", "skipped")
		if !kept {
			pgtest.Exec(t, db, `update outbox.deliveries set content = null where id = $1`, mail)
		}
		res, err := operate.New(db.Pool).Do(t.Context(), operate.Request{Action: operate.Replay, Filter: operate.Filter{IDs: []uuid.UUID{mail}}, By: operate.By{Who: "a test", Via: "command"}})
		if err != nil || res.Done != 1 {
			t.Fatalf("%+v, %v", res, err)
		}
		idOf(t, db, event, "mail", "delivered")
		if n := mails(p); n != 1 {
			t.Errorf("the mail was sent %d times", n)
		}
	}
}

// TestInsteadOfOpenedAgain: an event that is opened again while its mail waits has it
// judged at once, and it waits on; once it was skipped, it is planned anew and skipped
// again.
func TestInsteadOfOpenedAgain(t *testing.T) {
	t.Parallel()
	db, p := pgtest.New(t), newProvider(nil)
	l := newListener(t, db, routed(p, plain, textAndMail(noKey)), func(c *listener.Config) { c.PollInterval = 100 * time.Millisecond })
	start(t, l)
	event := insert(t, db, "x", `{}`)
	id := idOf(t, db, event, "text", "delivered")
	again := func() {
		processed(t, db, 5*time.Second)
		pgtest.Exec(t, db, `update outbox_events set processed_at = null`)
		processed(t, db, 5*time.Second)
	}
	again()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		due := pgtest.QueryVal[float64](t, db, `select extract(epoch from due_at - clock_timestamp()) from outbox.deliveries where step = 'mail' and state = 'scheduled'`)
		return due > 23*3600, fmt.Sprintf("due in %v s", due)
	})
	report(t, l, id, "delivered")
	idOf(t, db, event, "mail", "skipped")
	again()
	pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
		n := pgtest.QueryVal[int](t, db, `select count(*) from outbox.deliveries where step = 'mail' and state = 'skipped'`)
		return n == 2, fmt.Sprintf("%d skipped", n)
	})
	if n := mails(p); n != 0 {
		t.Errorf("the mail was sent %d times", n)
	}
}
