package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// attempts are the lines about attempts in a log, by channel.
func attempts(t *testing.T, logs string) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	for line := range strings.SplitSeq(strings.TrimSpace(logs), "\n") {
		var values map[string]any
		if err := json.Unmarshal([]byte(line), &values); err != nil {
			t.Fatalf("no log line: %s", line)
		}
		if values["msg"] == "attempt" {
			out[values["channel"].(string)] = values
		}
	}
	return out
}

// A database in which deliveries wait with the recipients that they were frozen
// with, as a copy of the real one has them, and events that nobody has looked at.
func TestRedirectHoldsForWhatIsFrozen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.twilio.Script(func(int, *http.Request) standin.TwilioReply { return standin.TwilioReply{Status: 429} })
	w.webhook.Script(func(int, *http.Request) standin.HTTPReply { return standin.HTTPReply{Status: 503} })
	events := func() {
		insert(t, w.db, 1, "sms.send", `{"to": "+15550100123", "body": "hello"}`)
		insert(t, w.db, 1, "email.send", `{"to": "Ann <ann@example.com>", "cc": "bo@example.net", "bcc": "cy@example.net", "subject": "s", "text": "hello"}`)
		insert(t, w.db, 1, "webhook.send", `{"url": "`+w.webhook.URL()+`/hook", "body": {}}`)
	}
	events()
	real := maps.Clone(w.env)
	real["OUTBOX_LOG_LEVEL"] = "info"
	down := maps.Clone(real)
	down["SMTP_PORT"] = "1"
	if got := call(t, down, "--once"); got.code != exitFailures || strings.Contains(got.stderr, "STAGING") {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	if n := pgtest.QueryVal[int](t, w.db, `select count(*) from outbox.deliveries where state = 'retry' and attempts = 1 and content is not null`); n != 3 {
		t.Fatalf("%d deliveries wait to be tried again, want 3", n)
	}
	contents := func() string {
		return pgtest.QueryVal[string](t, w.db, `select string_agg(id || ' ' || content::text, e'\n' order by id) from outbox.deliveries where content is not null`)
	}
	frozen := contents()

	w.twilio.Script(nil)
	w.webhook.Script(nil)
	before, _ := w.webhook.Requests()
	pgtest.Exec(t, w.db, `update outbox.deliveries set due_at = now() where state = 'retry'`)
	staging := maps.Clone(real)
	staging["OUTBOX_ALLOW_RECIPIENTS"] = "@example.com, hooks.example.com"
	staging["OUTBOX_REDIRECT_SMS"] = "+15550100199"
	staging["OUTBOX_REDIRECT_EMAIL"] = "Test <test@example.org>"
	// Nothing but what is due by itself first.
	got := call(t, staging, "--once")
	const loud = `"msg":"STAGING: deliveries do not go to whom they are for","sms":"all to +1*******99","email":"all to t***@example.org","webhook and http":"held but for @example.com, hooks.example.com"`
	if strings.Count(got.stderr, "STAGING") != 1 || !strings.Contains(got.stderr, `"level":"WARN",`+loud) {
		t.Errorf("the start is not loud: %s", got.stderr)
	}
	lines := attempts(t, got.stderr)
	if l := lines["sms"]; l["outcome"] != "delivered" || l["redirected"] != true || l["attempt"] != 2.0 {
		t.Errorf("SMS: %v", l)
	}
	if l := lines["email"]; l["outcome"] != "delivered" || l["redirected"] != true || l["attempt"] != 2.0 {
		t.Errorf("e-mail: %v", l)
	}
	if l := lines["webhook"]; l["outcome"] != "held" || l["level"] != "WARN" || l["redirected"] != nil || !strings.Contains(l["reason"].(string), "is none of the recipients that are allowed") {
		t.Errorf("webhook: %v", l)
	}
	if after, _ := w.webhook.Requests(); after != before || len(w.webhook.Received()) != 0 {
		t.Error("the webhook was sent")
	}
	sms, mails := w.twilio.Received(), w.smtp.Received()
	if len(sms) != 1 || sms[0].Recipient != "+15550100199" || sms[0].Body != "hello" {
		t.Errorf("SMS received: %+v", sms)
	}
	if len(mails) != 1 || mails[0].Recipient != "test@example.org" || !strings.Contains(mails[0].Body, "X-Original-To: a***@example.com, b***@example.net, c***@example.net\r\n") ||
		strings.Contains(mails[0].Body, "ann@") || strings.Contains(mails[0].Body, "bo@") || strings.Contains(mails[0].Body, "cy@") {
		t.Errorf("e-mail received: %+v", mails)
	}

	// The ledger has what it had: of the others the content is done with.
	held := contents()
	if !strings.Contains(frozen, held) || !strings.Contains(held, "/hook") {
		t.Errorf("the frozen content was %s\nand is %s", frozen, held)
	}
	if row := pgtest.QueryVal[string](t, w.db, `select state || ' ' || attempts || ' ' || last_error from outbox.deliveries where channel = 'webhook'`); !strings.HasPrefix(row, "held 1 not sent: http://127.0.0.1:") {
		t.Errorf("the ledger says %q", row)
	}
	if shown := pgtest.QueryVal[string](t, w.db, `select string_agg(recipient, ' ' order by channel) from outbox.deliveries where channel in ('sms', 'email')`); shown != "a***@example.com +1*******23" {
		t.Errorf("the ledger names %s", shown)
	}

	// What is new goes the same way, and is tried at once.
	events()
	if lines = attempts(t, call(t, staging, "--once").stderr); lines["sms"]["redirected"] != true || lines["sms"]["to"] != "+1*******23" || lines["email"]["redirected"] != true || lines["webhook"]["outcome"] != "held" {
		t.Errorf("new events: %v", lines)
	}
	if n := pgtest.QueryVal[int](t, w.db, `select count(*) from outbox.deliveries where state = 'held' and content is not null and finished_at is null`); n != 2 {
		t.Errorf("%d are held, want 2", n)
	}

	// A person lets one go where it may.
	host := strings.TrimPrefix(w.webhook.URL(), "http://")
	staging["OUTBOX_ALLOW_RECIPIENTS"] = host
	pgtest.Exec(t, w.db, `update outbox.deliveries set state = 'ready', due_at = now() where state = 'held'`)
	if lines = attempts(t, call(t, staging, "--once").stderr); lines["webhook"]["outcome"] != "delivered" || lines["webhook"]["redirected"] != nil || len(w.webhook.Received()) != 2 {
		t.Errorf("once it is allowed: %v", lines)
	}
	if n := open(t, w.db); n != 0 {
		t.Errorf("%d events are open", n)
	}
}

// Without a redirect, only those on the list are sent to.
func TestAllowedRecipients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	insert(t, w.db, 1, "sms.send", `{"to": "+15550100123", "body": "hello"}`)
	insert(t, w.db, 1, "email.send", `{"to": "ann@example.com", "subject": "s", "text": "yes"}`)
	insert(t, w.db, 1, "email.send", `{"to": "ann@example.com", "bcc": "bo@example.net", "subject": "s", "text": "no"}`)
	insert(t, w.db, 1, "log.send", `{}`)
	w.env["OUTBOX_ALLOW_RECIPIENTS"] = "@example.com, +1666*"
	got := call(t, w.env, "--once")
	if !strings.Contains(got.stderr, `"sms":"held but for @example.com, +1666*"`) {
		t.Errorf("the start is not loud: %s", got.stderr)
	}
	if mails := w.smtp.Received(); len(w.twilio.Received()) != 0 || len(mails) != 1 || !strings.Contains(mails[0].Body, "yes") || strings.Contains(mails[0].Body, "X-Original-To") {
		t.Errorf("received %+v and %+v", w.twilio.Received(), mails)
	}
	const states = `select string_agg(channel || ' ' || state || ' ' || attempts, ', ' order by channel, state) from outbox.deliveries where channel <> 'log'`
	if row := pgtest.QueryVal[string](t, w.db, states); row != "email delivered 1, email held 0, sms held 0" {
		t.Errorf("the ledger says %s", row)
	}
}

func TestRedirectVariables(t *testing.T) {
	for _, tt := range []struct {
		name, value, want string // "" means that it is accepted
	}{
		{"OUTBOX_REDIRECT_SMS", "+15550100123", ""},
		{"OUTBOX_REDIRECT_SMS", "15550100123", "accepted: a number in E.164 form"},
		{"OUTBOX_REDIRECT_SMS", "+1555*", "accepted: a number in E.164 form"},
		{"OUTBOX_REDIRECT_EMAIL", "Test <test@example.org>", ""},
		{"OUTBOX_REDIRECT_EMAIL", "test", "accepted: one e-mail address"},
		{"OUTBOX_REDIRECT_EMAIL", "a@example.org, b@example.org", "accepted: one e-mail address"},
		{"OUTBOX_REDIRECT_EMAIL", "jürgen@example.org", "accepted: one e-mail address"},
		{"OUTBOX_ALLOW_RECIPIENTS", "+15550100123,@example.com  hooks.example.com", ""},
		{"OUTBOX_ALLOW_RECIPIENTS", ",", "names nobody"},
		{"OUTBOX_ALLOW_RECIPIENTS", "@example.com, https://hooks.example.com", `"https://hooks.example.com" is none of a number`},
		{"OUTBOX_ALLOW_RECIPIENTS", "*", `"*" is none of a number`},
	} {
		_, problems := readConfig(environ(map[string]string{"DATABASE_URL": "postgres://localhost/db", tt.name: tt.value}))
		switch {
		case tt.want == "" && len(problems) > 0:
			t.Errorf("%s=%s: %v", tt.name, tt.value, problems)
		case tt.want != "" && (len(problems) != 1 || !strings.HasPrefix(problems.Error(), tt.name+"=") || !strings.Contains(problems.Error(), tt.want)):
			t.Errorf("%s=%s: %v, want it to say %q", tt.name, tt.value, problems, tt.want)
		}
	}
}
