package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ics "github.com/arran4/golang-ical"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/preview"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// mystos is a world with MystOS's tables and routes, one customer, and GA4.
type mystos struct {
	*world
	ga4 *standin.API
}

// The rows of the customer.
const (
	mystContact     = "00000000-0000-4000-8000-0000000000c1"
	mystLead        = "00000000-0000-4000-8000-0000000000a1"
	mystAppointment = "00000000-0000-4000-8000-0000000000b1"
	mystQuote       = "00000000-0000-4000-8000-0000000000d1"
)

func newMystOS(t testing.TB) *mystos {
	t.Helper()
	m := &mystos{world: newWorld(t)}
	dir, err := filepath.Abs("../../examples/mystos")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile(filepath.Join(dir, "schema.sql"))
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, m.db, string(schema))
	pgtest.Exec(t, m.db, fmt.Sprintf(`with c as (
			insert into contacts (id, first_name, last_name, email, phone) values ('%s', 'Ann', 'Lee', 'ann@example.com', '(202) 555-0123') returning id),
		p as (insert into properties (contact_id, address_line1, city, state, postal_code) select id, '1 Main St', 'Albany', 'NY', '12207' from c returning id),
		l as (insert into leads (id, contact_id, services_requested) select '%s', id, '{roof}' from c returning id),
		q as (insert into quotes (id, contact_id, total, share_token) select '%s', id, 1234.5, 'share-1' from c)
		insert into appointments (id, contact_id, property_id, lead_id, start_at, reschedule_token, created_at)
		select '%s', c.id, p.id, l.id, '2031-01-05 20:04+00', 'tok', now() - interval '3 days' from c, p, l`, mystContact, mystLead, mystQuote, mystAppointment))
	if m.ga4, err = standin.NewAPI(standin.APIConfig{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.ga4.Close() })
	maps.Copy(m.env, map[string]string{
		"OUTBOX_ROUTES": filepath.Join(dir, "routes.yaml"), "OUTBOX_POLL_INTERVAL_MS": "200",
		"NEXT_PUBLIC_SITE_URL": "https://myst.test", "QUOTE_ALERT_EMAIL": "office@myst.test, boss@myst.test",
		"GA4_MEASUREMENT_ID": "G-TEST", "GA4_API_SECRET": "ga4-secret", "GA4_URL": m.ga4.URL(),
	})
	return m
}

// event commits an event that was created some days ago, and waits for it. What is
// sent is what listener preview said before.
func (m *mystos) event(t *testing.T, daysAgo int, typ, payload string) {
	t.Helper()
	previewed, withheld := m.preview(t, typ, payload)
	texts, letters := len(m.twilio.Received()), len(m.smtp.Received())
	defer func() {
		t.Helper()
		var sent []string
		for _, r := range m.twilio.Received()[texts:] {
			sent = append(sent, unfolded(r.Recipient+" "+r.Body))
		}
		for _, l := range m.mails(t)[letters:] {
			sent = append(sent, unfolded(l.to+" "+l.subject+" "+l.text+" "+l.method))
		}
		if slices.Sort(sent); !slices.Equal(sent, previewed) {
			t.Errorf("%s: sent\n%s\npreviewed\n%s", typ, strings.Join(sent, "\n"), strings.Join(previewed, "\n"))
		}
		onRecord := pgtest.QueryVals[string](t, m.db, `select concat_ws(' ', route, step, state, last_error) from outbox.deliveries
			where event_seq = (select max(seq) from outbox_events) and state in ('skipped', 'dead', 'expired')`)
		if slices.Sort(onRecord); !slices.Equal(onRecord, withheld) {
			t.Errorf("%s: on record\n%s\npreviewed\n%s", typ, strings.Join(onRecord, "\n"), strings.Join(withheld, "\n"))
		}
	}()
	pgtest.Exec(t, m.db, `insert into outbox_events (type, payload, created_at) values ($1, $2::jsonb, now() - make_interval(days => $3))`, typ, payload, daysAgo)
	processed(t, m.db)
}

// preview returns the SMS and e-mails that listener preview would have leave now,
// and what it says never will, with the reason.
func (m *mystos) preview(t *testing.T, typ, payload string) (out, withheld []string) {
	t.Helper()
	file := write(t, "payload.json", payload)
	got := call(t, m.env, "preview", "--type", typ, "--payload", file, "--json")
	if got.code != exitOK {
		t.Fatalf("preview of %s: exit code %d, %s%s", typ, got.code, got.stdout, got.stderr)
	}
	var p preview.Preview
	if err := json.Unmarshal([]byte(got.stdout), &p); err != nil {
		t.Fatal(err)
	}
	for _, d := range p.Deliveries {
		switch {
		case d.State != dispatch.Ready && d.State != dispatch.Scheduled:
			withheld = append(withheld, strings.TrimSpace(strings.Join([]string{d.Route, d.Step, string(d.State), d.Reason}, " ")))
		case d.State != dispatch.Ready:
		case d.SMS != nil:
			out = append(out, unfolded(d.Recipient+" "+strings.Join(d.SMS.Body, "\n")))
		case d.Email != nil:
			method := ""
			if d.Email.Invite != nil {
				method = d.Email.Invite.Method
			}
			out = append(out, unfolded(d.Recipient+" "+d.Email.Subject+" "+strings.Join(d.Email.Text, "\n")+" "+method))
		}
	}
	slices.Sort(out)
	slices.Sort(withheld)
	return out, withheld
}

// unfolded is s without what only lays it out.
func unfolded(s string) string { return strings.Join(strings.Fields(s), " ") }

// letter is an e-mail as a person gets to see it.
type letter struct {
	to, subject, text string
	calendar          *ics.Calendar // nil: none
	method            string
}

// mails are what the mail server took, oldest first.
func (m *mystos) mails(t testing.TB) []letter {
	t.Helper()
	var out []letter
	for _, r := range m.smtp.Received() {
		msg, err := mail.ReadMessage(strings.NewReader(r.Body))
		if err != nil {
			t.Fatal(err)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
		if err != nil {
			t.Fatal(err)
		}
		l := letter{to: r.Recipient, subject: subject}
		l.read(t, msg.Header.Get("Content-Type"), msg.Header.Get("Content-Transfer-Encoding"), msg.Body)
		out = append(out, l)
	}
	return out
}

// read adds one part, or all within it.
func (l *letter) read(t testing.TB, contentType, encoding string, body io.Reader) {
	t.Helper()
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		t.Fatal(contentType, err)
	}
	if strings.HasPrefix(media, "multipart/") {
		for parts := multipart.NewReader(body, params["boundary"]); ; {
			p, err := parts.NextRawPart()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			l.read(t, p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p)
		}
	}
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	switch media {
	case "text/plain":
		l.text += string(b)
	case "text/calendar":
		if l.calendar, err = ics.ParseCalendar(bytes.NewReader(b)); err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		l.method = params["method"]
	}
}

// property is one of the invitation's event.
func (l letter) property(name ics.ComponentProperty) string {
	if l.calendar == nil {
		return ""
	}
	if p := l.calendar.Events()[0].GetProperty(name); p != nil {
		return p.Value
	}
	return ""
}

func (l letter) sequence(t testing.TB) int {
	t.Helper()
	n, err := strconv.Atoi(l.property(ics.ComponentPropertySequence))
	if err != nil {
		t.Fatalf("the sequence of %q: %v", l.subject, err)
	}
	return n
}

// wantFacts fails where s lacks one of facts, whatever the case.
func wantFacts(t testing.TB, what, s string, facts ...string) {
	t.Helper()
	for _, f := range facts {
		if !strings.Contains(strings.ToLower(s), strings.ToLower(f)) {
			t.Errorf("%s: no %q in %s", what, f, s)
		}
	}
}

// reminders are the deliveries of both that are in one of states.
func (m *mystos) reminders(t testing.TB, states ...string) []string {
	t.Helper()
	return pgtest.QueryVals[string](t, m.db, `select concat_ws(' ', step, to_char(due_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI')) from outbox.deliveries
		where step like 'reminder-%' and state = any($1) order by due_at`, states)
}

// TestMystOSReallySends: the life of an appointment and of a quote, through a
// listener to the providers' stand-ins.
func TestMystOSReallySends(t *testing.T) {
	t.Parallel()
	m := newMystOS(t)
	startListener(t, m.env)
	sms := func(n int) string {
		t.Helper()
		all := m.twilio.Received()
		if len(all) != n {
			t.Fatalf("%d SMS, want %d", len(all), n)
		}
		if last := all[n-1]; last.Recipient != "+12025550123" {
			t.Errorf("an SMS to %s", last.Recipient)
		}
		return all[n-1].Body
	}
	appointment := func(more string) string {
		return fmt.Sprintf(`{"appointmentId": %q, "leadId": %q, "services": ["roof"], "source": "web"%s}`, mystAppointment, mystLead, more)
	}
	const link = "https://myst.test/schedule?appointmentId=" + mystAppointment + "&token=tok"

	m.event(t, 3, "estimate.requested", appointment(""))
	wantFacts(t, "the confirmation", sms(1), "Myst", "estimate", "January 5, 2031, 3:04 PM", link)
	first := m.mails(t)[0]
	wantFacts(t, "the mail", first.subject+first.text, "estimate", "January 5, 2031, 3:04 PM", "1 Main St, Albany, NY 12207", link)
	if first.to != "ann@example.com" || first.method != "REQUEST" || first.property(ics.ComponentPropertyUniqueId) != mystAppointment+"@myst-os" ||
		first.property(ics.ComponentPropertyDtStart) != "20310105T200400Z" || first.property(ics.ComponentPropertyDtEnd) != "20310105T210400Z" {
		t.Errorf("the invitation to %s: %s %v", first.to, first.method, first.calendar)
	}
	if got := m.reminders(t, "scheduled"); !slices.Equal(got, []string{"reminder-24h 2031-01-04 20:04", "reminder-2h 2031-01-05 18:04"}) {
		t.Errorf("scheduled: %q", got)
	}
	hits := m.ga4.Received()
	if len(hits) != 1 || hits[0].Recipient != "POST /mp/collect?api_secret=ga4-secret&measurement_id=G-TEST" && hits[0].Recipient != "POST /mp/collect?measurement_id=G-TEST&api_secret=ga4-secret" {
		t.Fatalf("GA4 got %+v", hits)
	}
	wantFacts(t, "the hit", hits[0].Body, `"client_id":"`+mystLead+`"`, `"name":"generate_lead"`, `"lead_source":"web"`)

	// A reschedule moves the invitation and both reminders.
	pgtest.Exec(t, m.db, `update appointments set start_at = '2031-02-01 15:00+00', updated_at = now()`)
	m.event(t, 2, "estimate.rescheduled", appointment(`, "startAt": "2031-03-03T12:00:00Z"`))
	wantFacts(t, "the new time", sms(2), "new time", "February 1, 2031, 10:00 AM", link)
	second := m.mails(t)[1]
	if second.method != "REQUEST" || second.property(ics.ComponentPropertyUniqueId) != first.property(ics.ComponentPropertyUniqueId) ||
		second.property(ics.ComponentPropertyDtStart) != "20310201T150000Z" || second.sequence(t) <= first.sequence(t) {
		t.Errorf("the second invitation: %s %v", second.method, second.calendar)
	}
	if got := m.reminders(t, "scheduled"); !slices.Equal(got, []string{"reminder-24h 2031-01-31 15:00", "reminder-2h 2031-02-01 13:00"}) {
		t.Errorf("scheduled after the reschedule: %q", got)
	}
	if got := m.reminders(t, "canceled"); len(got) != 2 {
		t.Errorf("canceled by the reschedule: %q", got)
	}

	// Confirmed says so and leaves the reminders; requested says nothing.
	m.event(t, 1, "estimate.status_changed", appointment(`, "status": "confirmed"`))
	wantFacts(t, "confirmed", sms(3), "confirmed", "February 1, 2031")
	m.event(t, 1, "estimate.status_changed", appointment(`, "status": "requested"`))
	sms(3)
	if got := m.reminders(t, "scheduled"); len(got) != 2 {
		t.Errorf("scheduled after confirmed: %q", got)
	}

	// Canceled takes all of it back.
	pgtest.Exec(t, m.db, `update appointments set status = 'canceled'`)
	m.event(t, 0, "estimate.status_changed", appointment(`, "status": "canceled"`))
	wantFacts(t, "canceled", sms(4), "canceled")
	last := m.mails(t)[3]
	if last.method != "CANCEL" || last.property(ics.ComponentPropertyUniqueId) != first.property(ics.ComponentPropertyUniqueId) || last.sequence(t) <= second.sequence(t) {
		t.Errorf("the cancellation: %s %v", last.method, last.calendar)
	}
	if got := m.reminders(t, "scheduled"); len(got) != 0 {
		t.Errorf("scheduled after it was canceled: %q", got)
	}
	if got := m.reminders(t, "canceled"); len(got) != 4 {
		t.Errorf("canceled: %q", got)
	}

	// Quotes.
	m.event(t, 0, "quote.sent", fmt.Sprintf(`{"quoteId": %q, "contactId": %q, "shareToken": "share-1"}`, mystQuote, mystContact))
	wantFacts(t, "the quote", sms(5), "Myst", "quote", "$1,234.50", "https://myst.test/quote/share-1")
	m.event(t, 0, "quote.decision", fmt.Sprintf(`{"quoteId": %q, "decision": "accepted", "source": "customer"}`, mystQuote))
	wantFacts(t, "the decision", sms(6), "Myst", "thanks", "quote")
	m.event(t, 0, "quote.decision", fmt.Sprintf(`{"quoteId": %q, "decision": "declined", "source": "admin"}`, mystQuote))
	wantFacts(t, "the other decision", sms(7), "Myst", "declined", "quote")
	var to []string
	for _, l := range m.mails(t)[4:] {
		to = append(to, l.to)
		wantFacts(t, "the mail to "+l.to, l.subject+l.text, "quote", "$1,234.50")
		if l.calendar != nil {
			t.Errorf("an invitation to %q", l.subject)
		}
	}
	slices.Sort(to)
	if want := slices.Concat(slices.Repeat([]string{"ann@example.com"}, 3), slices.Repeat([]string{"boss@myst.test"}, 3), slices.Repeat([]string{"office@myst.test"}, 3)); !slices.Equal(to, want) {
		t.Errorf("mails to %v", to)
	}

	// Records are written once.
	m.event(t, 0, "payment.recorded", fmt.Sprintf(`{"paymentId": "p1", "appointmentId": %q, "amountCents": 123450, "currency": "usd", "method": "card", "source": "stripe"}`, mystAppointment))
	if got := pgtest.QueryVals[string](t, m.db, `select body from appointment_notes`); !slices.Equal(got, []string{"Payment: USD 1234.50, card, stripe"}) {
		t.Errorf("notes: %q", got)
	}
	if !pgtest.QueryVal[bool](t, m.db, `select updated_at > now() - interval '1 minute' from appointments`) {
		t.Error("the appointment was not touched")
	}
	for _, s := range []string{`" QUOTED "`, `"won"`, `"dreaming"`} {
		m.event(t, 0, "pipeline.stage_request", fmt.Sprintf(`{"contactId": %q, "stage": %s, "reason": "called"}`, mystContact, s))
	}
	if got := pgtest.QueryVals[string](t, m.db, `select stage || ' ' || notes from crm_pipeline`); !slices.Equal(got, []string{"won called"}) {
		t.Errorf("pipeline: %q", got)
	}

	// A lead that has an appointment is confirmed as if it had been requested.
	pgtest.Exec(t, m.db, `update appointments set status = 'requested'`)
	m.event(t, 0, "lead.created", fmt.Sprintf(`{"leadId": %q, "services": [], "source": "ads", "appointmentId": null}`, mystLead))
	wantFacts(t, "the lead", sms(8), "Myst", "estimate", "request", link)
	if n := len(m.ga4.Received()); n != 2 {
		t.Errorf("GA4 got %d hits, want 2", n)
	}
	if got := m.reminders(t, "scheduled"); len(got) != 2 {
		t.Errorf("scheduled for the lead: %q", got)
	}

	if got := pgtest.QueryVals[string](t, m.db, `select route || '/' || step || ' ' || state || ': ' || coalesce(last_error, '') from outbox.deliveries
		where state not in ('delivered', 'canceled', 'scheduled', 'skipped')`); len(got) > 0 {
		t.Errorf("unfinished: %q", got)
	}
}

// TestMystOSLacks sends each of the eight types with a key that is missing, for a
// row that is not there, and to a customer without a phone or an e-mail. What can be
// sent is, what cannot is skipped with its reason, and nothing is dead. It is what
// the preview says.
func TestMystOSLacks(t *testing.T) {
	t.Parallel()
	m := newMystOS(t)
	startListener(t, m.env)
	const nobody = "00000000-0000-4000-8000-000000000000"
	sent := func(what func()) (sms, mails int) {
		t.Helper()
		sms, mails = len(m.twilio.Received()), len(m.smtp.Received())
		what()
		return len(m.twilio.Received()) - sms, len(m.smtp.Received()) - mails
	}
	for _, tt := range []struct {
		typ, payload, key, row string // the key whose absence, and whose other value, leaves nothing to send
		sms, mails, alerts     int    // to a customer who has both
	}{
		{"estimate.requested", `{"appointmentId": "` + mystAppointment + `", "services": []}`, "appointmentId", mystAppointment, 1, 1, 0},
		{"estimate.rescheduled", `{"appointmentId": "` + mystAppointment + `"}`, "appointmentId", mystAppointment, 1, 1, 0},
		{"estimate.status_changed", `{"appointmentId": "` + mystAppointment + `", "status": "confirmed"}`, "appointmentId", mystAppointment, 1, 1, 0},
		{"estimate.status_changed", `{"appointmentId": "` + mystAppointment + `", "status": "confirmed"}`, "status", mystAppointment, 1, 1, 0},
		{"lead.created", `{"leadId": "` + mystLead + `", "services": [], "appointmentId": null}`, "leadId", mystLead, 1, 1, 0},
		{"quote.sent", `{"quoteId": "` + mystQuote + `", "shareToken": "share-1"}`, "quoteId", mystQuote, 1, 1, 2},
		{"quote.decision", `{"quoteId": "` + mystQuote + `", "decision": "accepted"}`, "quoteId", mystQuote, 1, 1, 2},
		{"quote.decision", `{"quoteId": "` + mystQuote + `", "decision": "accepted"}`, "decision", mystQuote, 1, 1, 2},
		{"payment.recorded", `{"appointmentId": "` + mystAppointment + `", "amountCents": 100, "currency": "usd", "method": "card", "source": "x"}`, "appointmentId", mystAppointment, 0, 0, 0},
		{"payment.recorded", `{"appointmentId": "` + mystAppointment + `", "amountCents": 100, "currency": "usd", "method": "card", "source": "x"}`, "amountCents", mystAppointment, 0, 0, 0},
		{"payment.recorded", `{"appointmentId": "` + mystAppointment + `", "amountCents": 100, "currency": "usd", "method": "card", "source": "x"}`, "method", mystAppointment, 0, 0, 0},
		{"pipeline.stage_request", `{"contactId": "` + mystContact + `", "stage": "won"}`, "contactId", mystContact, 0, 0, 0},
		{"pipeline.stage_request", `{"contactId": "` + mystContact + `", "stage": "won"}`, "stage", mystContact, 0, 0, 0},
	} {
		check := func(lacks string, sms, mails, wantSMS, wantMails int) {
			t.Helper()
			if sms != wantSMS || mails != wantMails {
				t.Errorf("%s, %s: %d SMS and %d mails, want %d and %d", tt.typ, lacks, sms, mails, wantSMS, wantMails)
			}
		}
		var keys map[string]any
		if err := json.Unmarshal([]byte(tt.payload), &keys); err != nil {
			t.Fatal(err)
		}
		delete(keys, tt.key)
		without, err := json.Marshal(keys)
		if err != nil {
			t.Fatal(err)
		}
		notes := pgtest.QueryVal[int](t, m.db, `select (select count(*) from appointment_notes) + (select count(*) from crm_pipeline)`)
		sms, mails := sent(func() { m.event(t, 0, tt.typ, string(without)) })
		check("no "+tt.key, sms, mails, 0, 0)
		sms, mails = sent(func() { m.event(t, 0, tt.typ, strings.ReplaceAll(tt.payload, tt.row, nobody)) })
		check("no row", sms, mails, 0, 0)
		if n := pgtest.QueryVal[int](t, m.db, `select (select count(*) from appointment_notes) + (select count(*) from crm_pipeline)`); n != notes {
			t.Errorf("%s: %d rows written", tt.typ, n-notes)
		}
		pgtest.Exec(t, m.db, `update contacts set phone = null, phone_e164 = null`)
		sms, mails = sent(func() { m.event(t, 0, tt.typ, tt.payload) })
		check("no phone", sms, mails, 0, tt.mails+tt.alerts)
		pgtest.Exec(t, m.db, `update contacts set phone = '(202) 555-0123', email = null`)
		sms, mails = sent(func() { m.event(t, 0, tt.typ, tt.payload) })
		check("no e-mail", sms, mails, tt.sms, tt.alerts)
		pgtest.Exec(t, m.db, `update contacts set email = 'ann@example.com'`)
	}
	if dead := pgtest.QueryVals[string](t, m.db, `select concat_ws(' ', event_type, step, last_error) from outbox.deliveries where state in ('dead', 'held', 'expired')`); len(dead) > 0 {
		t.Errorf("dead: %q", dead)
	}
}

// TestMystOSReminds: a reminder leaves at its time.
func TestMystOSReminds(t *testing.T) {
	t.Parallel()
	m := newMystOS(t)
	pgtest.Exec(t, m.db, `update appointments set status = 'confirmed', start_at = now() + interval '2 hours 4 seconds'`)
	startListener(t, m.env)
	m.event(t, 0, "estimate.requested", fmt.Sprintf(`{"appointmentId": %q}`, mystAppointment))
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
		all := m.twilio.Received()
		return len(all) == 2, fmt.Sprintf("%d SMS", len(all))
	})
	wantFacts(t, "the reminder", m.twilio.Received()[1].Body, "Myst", "in two hours", "1 Main St")
	if left := m.twilio.Received()[1].At; left.Before(pgtest.QueryVal[time.Time](t, m.db, `select start_at - interval '2 hours' from appointments`)) {
		t.Errorf("it left at %s", left)
	}
}

// TestMystOSOffline: without providers, keys and addresses nothing is sent, and
// all of it is on record.
func TestMystOSOffline(t *testing.T) {
	t.Parallel()
	m := newMystOS(t)
	env := map[string]string{"DATABASE_URL": m.env["DATABASE_URL"], "OUTBOX_ROUTES": m.env["OUTBOX_ROUTES"]}
	pgtest.Exec(t, m.db, `insert into outbox_events (type, payload) values ('estimate.requested', $1::jsonb)`, fmt.Sprintf(`{"appointmentId": %q}`, mystAppointment))
	if got := call(t, env, "--once"); got.code != exitOK || got.stdout != counts(1, 0, 1, 0) {
		t.Errorf("exit code %d, %s%s", got.code, got.stdout, got.stderr)
	}
	want := []string{"generate-lead when: env(\"GA4_MEASUREMENT_ID\") != \"\"", "mail email not configured", "reminder-24h sms not configured", "reminder-2h sms not configured", "text sms not configured"}
	if got := pgtest.QueryVals[string](t, m.db, `select step || ' ' || last_error from outbox.deliveries where state = 'skipped' order by step`); !slices.Equal(got, want) {
		t.Errorf("skipped: %q", got)
	}
}
