package examples_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	ics "github.com/arran4/golang-ical"
	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/openai"
	"github.com/outbox-listener/outbox-listener/dispatch/query"
	"github.com/outbox-listener/outbox-listener/dispatch/routes"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// mystosEnv is what MystOS's .env says.
var mystosEnv = map[string]string{
	"NEXT_PUBLIC_SITE_URL": "https://myst.test", "SMTP_FROM": "Myst <hello@myst.test>",
	"QUOTE_ALERT_EMAIL": "office@myst.test, boss@myst.test", "GA4_MEASUREMENT_ID": "G-TEST", "GA4_API_SECRET": "ga4-secret",
}

// customer are the rows of one customer, by ids of their own.
type customer struct{ contact, property, lead, appointment, quote string }

// seed inserts a customer with everything: an appointment at 3:04 PM in New York
// on January 5, 2031, and a quote of $1,234.50.
func seed(t testing.TB, db *pgtest.DB) customer {
	t.Helper()
	c := customer{uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString()}
	for _, s := range []struct {
		sql  string
		args []any
	}{
		{`insert into contacts (id, first_name, last_name, email, phone, phone_e164) values ($1, 'Ann', 'Lee', 'ann@example.com', '(202) 555-0199', '+12025550123')`, []any{c.contact}},
		{`insert into properties (id, contact_id, address_line1, city, state, postal_code) values ($1, $2, '1 Main St', 'Albany', 'NY', '12207')`, []any{c.property, c.contact}},
		{`insert into leads (id, contact_id, property_id, services_requested, notes, form_payload) values ($1, $2, $3, '{roof,gutters}', 'Ring twice',
			'{"scheduling": {"preferredDate": "2031-01-05"}}')`, []any{c.lead, c.contact, c.property}},
		{`insert into appointments (id, contact_id, property_id, lead_id, start_at, reschedule_token) values ($1, $2, $3, $4, '2031-01-05 20:04+00', 'tok+1')`,
			[]any{c.appointment, c.contact, c.property, c.lead}},
		{`insert into quotes (id, contact_id, property_id, services, total, deposit_due, share_token) values ($1, $2, $3, '["roof", "gutters"]', 1234.5, 200, 'share-1')`,
			[]any{c.quote, c.contact, c.property}},
	} {
		pgtest.Exec(t, db, s.sql, s.args...)
	}
	return c
}

// fill puts c's ids where s has their names in braces.
func (c customer) fill(s string) string {
	return strings.NewReplacer("{contact}", c.contact, "{lead}", c.lead, "{appointment}", c.appointment, "{quote}", c.quote,
		"{nobody}", "00000000-0000-4000-8000-000000000000").Replace(s)
}

// noKey is a model that is not configured.
type noKey struct{}

func (noKey) Write(ctx context.Context, a openai.Ask) map[string]openai.Words {
	return (*openai.Client)(nil).Write(ctx, a)
}

func plan(t testing.TB, db *pgtest.DB, r *routes.Routes, typ, payload string) []dispatch.Message {
	t.Helper()
	ev := dispatch.Event{ID: uuid.New(), Type: typ, Payload: json.RawMessage(payload), CreatedAt: time.Now()}
	messages, err := r.Plan(t.Context(), ev, routes.Database(&query.Reader{Pool: db.Pool}), noKey{})
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

// limits are the most characters of what a route writes.
var limits = map[string]struct{ sms, subject, body int }{
	"estimate": {320, 120, 1000}, "estimate-status": {320, 120, 1000}, "quote-sent": {240, 120, 900}, "quote-decision": {240, 120, 900},
}

// texts are what people get to read of m.
func texts(t testing.TB, m dispatch.Message) string {
	t.Helper()
	most := limits[m.Route]
	check := func(what, s string, most int) {
		if n := utf8.RuneCountInString(s); n > most && most > 0 && m.Step != "alert" {
			t.Errorf("%s/%s: the %s has %d characters, more than %d: %s", m.Route, m.Step, what, n, most, s)
		}
	}
	switch m.Channel {
	case dispatch.ChannelSMS:
		var s dispatch.SMS
		decode(t, m.Content, &s)
		check("SMS", s.Body, most.sms)
		return s.Body
	case dispatch.ChannelEmail:
		var e dispatch.Email
		decode(t, m.Content, &e)
		check("subject", e.Subject, most.subject)
		check("body", e.Text, most.body)
		text := e.Subject + "\n" + e.Text
		if e.Invite != nil {
			cal, err := ics.ParseCalendar(strings.NewReader(e.Invite.Calendar))
			if err != nil {
				t.Errorf("%s/%s: the invitation: %v", m.Route, m.Step, err)
				return text
			}
			for _, name := range []ics.ComponentProperty{ics.ComponentPropertyUniqueId, ics.ComponentPropertySequence, ics.ComponentPropertyDtStart,
				ics.ComponentPropertyDtEnd, ics.ComponentPropertySummary, ics.ComponentPropertyLocation, ics.ComponentPropertyOrganizer,
				ics.ComponentPropertyAttendee, ics.ComponentPropertyDescription} {
				if p := cal.Events()[0].GetProperty(name); p != nil {
					text += fmt.Sprintf("\n%s:%s", name, p.Value)
				}
			}
			text += "\nMETHOD:" + e.Invite.Method
		}
		return text
	}
	return string(m.Content)
}

func decode(t testing.TB, raw json.RawMessage, v any) {
	t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatal(err)
	}
}

// TestMystOSPlans: recipients, facts, limits and outcomes of each of the eight
// types, also where something is missing. A want is "route/step recipient" and
// then, each behind a |, what the text has in it, or what is wrong if it has it
// behind a !; or "route/step SKIP" and why.
func TestMystOSPlans(t *testing.T) {
	t.Parallel()
	db := withSchema(t, "mystos")
	const (
		link      = "https://myst.test/schedule?appointmentId={appointment}&token=tok%2B1"
		start     = "January 5, 2031, 3:04 PM"
		quoteLink = "https://myst.test/quote/share-1"
		noRow     = " SKIP lookup visit found no row"
		noQuote   = " SKIP lookup quote found no row"
		noPhone   = " SKIP nobody to send to: to is empty"
		requested = `{"appointmentId": "{appointment}", "leadId": "{lead}", "services": ["windows"], "appointmentType": "estimate", "source": "web",
			"scheduling": {"preferredDate": "2031-01-09", "alternateDate": null, "timeWindow": "morning"}}`
		moved   = `{"appointmentId": "{appointment}", "startAt": "2031-02-01T15:00:00Z", "durationMinutes": 90, "rescheduleUrl": "https://elsewhere.test/x", "services": ["windows"]}`
		lead    = `{"leadId": "{lead}", "services": ["roof"], "appointmentType": "estimate", "source": "ads", "scheduling": {}, "appointmentId": null}`
		sent    = `{"quoteId": "{quote}", "contactId": "{contact}", "shareToken": "share-1"}`
		paid    = `{"paymentId": "p1", "appointmentId": "{appointment}", "amountCents": 123450, "currency": "usd", "method": "card", "source": "stripe"}`
		staged  = `{"contactId": "{contact}", "stage": " Quoted ", "reason": "called"}`
		nobody  = `"00000000-0000-4000-8000-000000000000"`
		noKeyOf = ` SKIP when: payload.appointmentId != nil, event.type == "lead.created"`
	)
	var (
		text  = "estimate/text +12025550123|Myst|estimate|Ann Lee|" + start + "|" + link + "|!TBD"
		mail  = "estimate/mail ann@example.com|estimate|" + start + "|1 Main St, Albany, NY 12207|roof and gutters|" + link
		cal   = "|METHOD:REQUEST|UID:{appointment}@myst-os|DTSTART:20310105T200400Z|DTEND:20310105T210400Z|ORGANIZER:mailto:hello@myst.test|ATTENDEE:mailto:ann@example.com|SUMMARY:Myst estimate: Ann Lee|Ring twice"
		day   = "estimate/reminder-24h +12025550123|at 2031-01-04T20:04:00Z|Myst|tomorrow|" + start + "|" + link
		hours = "estimate/reminder-2h +12025550123|at 2031-01-05T18:04:00Z|Myst|two hours|" + start + "|1 Main St"
		ga4   = "ga4-lead/generate-lead https://www.google-analytics.com/mp/collect?measurement_id=G-TEST|generate_lead|{lead}|!ga4-secret"

		quoteText = "quote-sent/text +12025550123|Myst|quote|$1,234.50|" + quoteLink
		quoteMail = "quote-sent/mail ann@example.com|quote|Total: $1,234.50|Deposit: $200.00|roof and gutters|" + quoteLink
		alerts    = func(route, facts string) []string {
			return []string{route + "/alert office@myst.test|" + facts, route + "/alert boss@myst.test|" + facts}
		}
	)
	all := func(route, outcome string, steps ...string) (out []string) {
		for _, s := range steps {
			out = append(out, route+"/"+s+outcome)
		}
		return out
	}
	estimate := func(outcome string) []string {
		return all("estimate", outcome, "text", "mail", "reminder-24h", "reminder-2h")
	}
	quoted := func(route, outcome string) []string { return all(route, outcome, "text", "mail", "alert") }
	status := func(s string) string {
		return `{"appointmentId": "{appointment}", "leadId": "{lead}", "status": "` + s + `"}`
	}
	decided := func(s string) string {
		return `{"quoteId": "{quote}", "decision": "` + s + `", "source": "customer", "notes": "soon"}`
	}
	without := func(payload, key string) string {
		var m map[string]any
		decode(t, json.RawMessage(payload), &m)
		if _, there := m[key]; !there {
			t.Fatalf("no %s in %s", key, payload)
		}
		delete(m, key)
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	const nullPhone, nullEmail = `update contacts set phone = null, phone_e164 = null where id = '{contact}'`, `update contacts set email = null where id = '{contact}'`
	over := func(reason string) []string {
		if strings.HasPrefix(reason, "when: ") {
			return []string{"estimate-over/ SKIP " + reason}
		}
		return []string{"estimate-over/reminder-24h SKIP " + reason, "estimate-over/reminder-2h SKIP " + reason}
	}
	const canceling, notOver = "cancels what older events have left", `when: payload.status in ["canceled", "completed", "no_show"]`

	for _, tt := range []struct {
		name, typ, payload string
		change             string // of the rows
		env                map[string]string
		want               []string
	}{
		{"requested", "estimate.requested", requested, "", nil, []string{text + "|request", mail + "|request" + cal + "|SEQUENCE:0", day, hours, ga4}},
		{"requested, no appointmentId", "estimate.requested", without(requested, "appointmentId"), "", nil, append(estimate(noKeyOf), ga4)},
		{"requested, no leadId", "estimate.requested", without(requested, "leadId"), "", nil, []string{text, mail + cal, day, hours, "ga4-lead/generate-lead https|generate_lead"}},
		{"requested, no row", "estimate.requested", strings.Replace(requested, "{appointment}", "{nobody}", 1), "", nil, append(estimate(noRow), ga4)},
		{"requested, null phone", "estimate.requested", requested, nullPhone, nil, []string{"estimate/text" + noPhone, mail + cal, "estimate/reminder-24h" + noPhone, "estimate/reminder-2h" + noPhone, ga4}},
		{"requested, null e-mail", "estimate.requested", requested, nullEmail, nil, []string{text, "estimate/mail" + noPhone, day, hours, ga4}},
		{"requested, the other phone", "estimate.requested", requested, `update contacts set phone_e164 = null where id = '{contact}'`, nil,
			[]string{strings.Replace(text, "0123", "0199", 1), mail, strings.Replace(day, "0123", "0199", 1), strings.Replace(hours, "0123", "0199", 1), ga4}},
		{"requested, no name", "estimate.requested", requested, `update contacts set first_name = null, last_name = ' ' where id = '{contact}'`, nil,
			[]string{strings.Replace(text, "Ann Lee", "Myst Customer", 1), "estimate/mail ann@example.com|SUMMARY:Myst estimate: Myst Customer", day, hours, ga4}},
		{"requested, half a name", "estimate.requested", requested, `update contacts set first_name = null where id = '{contact}'`, nil,
			[]string{"estimate/text +12025550123|hello Lee,", mail, day, hours, ga4}},
		{"requested, no start", "estimate.requested", requested, `update appointments set start_at = null where id = '{appointment}'`, nil,
			[]string{"estimate/text +12025550123|Time: TBD|" + link, "estimate/mail ann@example.com|Time: TBD|Your wish: 2031-01-05|!METHOD",
				"estimate/reminder-24h SKIP when: ", "estimate/reminder-2h SKIP when: ", ga4}},
		{"requested for in three hours", "estimate.requested", requested, `update appointments set start_at = now() + interval '3 hours' where id = '{appointment}'`, nil,
			[]string{"estimate/text", "estimate/mail", "estimate/reminder-24h SKIP when: ", "estimate/reminder-2h +12025550123|at ", ga4}},
		{"requested, canceled meanwhile", "estimate.requested", requested, `update appointments set status = 'canceled' where id = '{appointment}'`, nil,
			[]string{text, mail, `estimate/reminder-24h SKIP when: visit.status in ["requested", "confirmed"]`, "estimate/reminder-2h SKIP when: ", ga4}},
		{"requested, long values", "estimate.requested", requested, `update contacts set first_name = repeat('Ann', 200) where id = '{contact}';
			update properties set address_line1 = repeat('Main ', 200) where contact_id = '{contact}'; update leads set services_requested = array_fill('gutters'::text, '{99}') where id = '{lead}'`, nil,
			[]string{"estimate/text +1|" + start + "|" + link, "estimate/mail ann|" + start + "|" + link, day, "estimate/reminder-2h", ga4}},
		{"requested, nothing else known", "estimate.requested", requested, `update appointments set property_id = null, lead_id = null, reschedule_token = null where id = '{appointment}'`, nil,
			[]string{"estimate/text +1|Myst|" + start + "|!http", "estimate/mail ann|Services: windows|!http|METHOD:REQUEST", "estimate/reminder-24h +1|!http", "estimate/reminder-2h +1", ga4}},
		{"requested, another zone and site", "estimate.requested", requested, "", map[string]string{"APPOINTMENT_TIMEZONE": "America/Chicago", "NEXT_PUBLIC_SITE_URL": "", "SITE_URL": "https://other.test"},
			[]string{"estimate/text +1|January 5, 2031, 2:04 PM|https://other.test/schedule", "estimate/mail", "estimate/reminder-24h", "estimate/reminder-2h", ga4}},
		{"requested, nothing configured", "estimate.requested", requested, "", map[string]string{"NEXT_PUBLIC_SITE_URL": "", "SMTP_FROM": "", "GA4_MEASUREMENT_ID": ""},
			[]string{"estimate/text +1|http://localhost:3000/schedule", "estimate/mail ann", "estimate/reminder-24h", "estimate/reminder-2h",
				`ga4-lead/generate-lead SKIP when: env("GA4_MEASUREMENT_ID") != ""`}},

		{"rescheduled: the database wins", "estimate.rescheduled", moved, "", nil, []string{text + "|new time|!elsewhere", mail + "|new time|!windows" + cal, day, hours}},
		{"rescheduled: what only the payload has", "estimate.rescheduled", moved, `update appointments set start_at = null, reschedule_token = null, lead_id = null where id = '{appointment}'`, nil,
			[]string{"estimate/text +1|February 1, 2031, 10:00 AM|https://elsewhere.test/x", "estimate/mail ann|Services: windows|DTSTART:20310201T150000Z|DTEND:20310201T160000Z",
				"estimate/reminder-24h +1|at 2031-01-31T15:00:00Z", "estimate/reminder-2h +1|at 2031-02-01T13:00:00Z"}},
		{"rescheduled, later", "estimate.rescheduled", moved, `update appointments set created_at = now() - interval '3 days' where id = '{appointment}'`, nil,
			[]string{text, mail + "|SEQUENCE:2592", day, hours}},
		{"rescheduled, no appointmentId", "estimate.rescheduled", without(moved, "appointmentId"), "", nil, estimate(noKeyOf)},
		{"rescheduled, no row", "estimate.rescheduled", strings.Replace(moved, "{appointment}", "{nobody}", 1), "", nil, estimate(noRow)},
		{"rescheduled, null phone", "estimate.rescheduled", moved, nullPhone, nil, []string{"estimate/text" + noPhone, mail, "estimate/reminder-24h" + noPhone, "estimate/reminder-2h" + noPhone}},
		{"rescheduled, null e-mail", "estimate.rescheduled", moved, nullEmail, nil, []string{text, "estimate/mail" + noPhone, day, hours}},

		{"a lead with an appointment", "lead.created", lead, "", nil, []string{text, mail + cal, day, hours, ga4 + "|ads"}},
		{"a lead without one", "lead.created", lead, `update appointments set lead_id = null where id = '{appointment}'`, nil, append(estimate(noRow), ga4)},
		{"a lead, no leadId", "lead.created", without(lead, "leadId"), "", nil, append(estimate(noRow), "ga4-lead/generate-lead https|generate_lead")},
		{"a lead, no row", "lead.created", strings.Replace(lead, "{lead}", "{nobody}", 1), "", nil, append(estimate(noRow), "ga4-lead/generate-lead https")},
		{"a lead, null phone", "lead.created", lead, nullPhone, nil, []string{"estimate/text" + noPhone, mail, "estimate/reminder-24h" + noPhone, "estimate/reminder-2h" + noPhone, ga4}},
		{"a lead, null e-mail", "lead.created", lead, nullEmail, nil, []string{text, "estimate/mail" + noPhone, day, hours, ga4}},

		{"confirmed", "estimate.status_changed", status("confirmed"), "", nil, append([]string{
			"estimate-status/text +12025550123|Myst|estimate is confirmed|" + start + "|" + link, "estimate-status/mail ann@example.com|estimate|confirmed|" + start + "|!METHOD"}, over(notOver)...)},
		{"completed", "estimate.status_changed", status("completed"), "", nil, append([]string{
			"estimate-status/text +1|Myst|estimate|completed|!confirmed|!http", "estimate-status/mail ann|estimate|completed|!METHOD"}, over(canceling)...)},
		{"canceled", "estimate.status_changed", status("canceled"), "", nil, append([]string{
			"estimate-status/text +1|Myst|estimate|canceled|" + start, "estimate-status/mail ann|estimate|canceled|METHOD:CANCEL|UID:{appointment}@myst-os|DTSTART:20310105T200400Z"}, over(canceling)...)},
		{"no show", "estimate.status_changed", status("no_show"), "", nil, append([]string{
			"estimate-status/text +1|Myst|estimate|missed you|" + link, "estimate-status/mail ann|estimate|missed|!METHOD"}, over(canceling)...)},
		{"back to requested", "estimate.status_changed", status("requested"), "", nil, append(all("estimate-status", ` SKIP when: payload.status in ["confirmed"`, "text", "mail"), over(notOver)...)},
		{"status, no status", "estimate.status_changed", without(status("x"), "status"), "", nil, append(all("estimate-status", ` SKIP when: payload.status in`, "text", "mail"), over(notOver)...)},
		{"status, no appointmentId", "estimate.status_changed", without(status("canceled"), "appointmentId"), "", nil,
			append(all("estimate-status", ` SKIP the payload has no "appointmentId"`, "text", "mail"), over("when: payload.appointmentId != nil")...)},
		{"status, no row", "estimate.status_changed", strings.Replace(status("canceled"), "{appointment}", "{nobody}", 1), "", nil, append(all("estimate-status", noRow, "text", "mail"), over(canceling)...)},
		{"status, null phone", "estimate.status_changed", status("canceled"), nullPhone, nil, append([]string{"estimate-status/text" + noPhone, "estimate-status/mail ann|METHOD:CANCEL"}, over(canceling)...)},
		{"status, null e-mail", "estimate.status_changed", status("canceled"), nullEmail, nil, append([]string{"estimate-status/text +1", "estimate-status/mail" + noPhone}, over(canceling)...)},
		{"canceled, no start", "estimate.status_changed", status("canceled"), `update appointments set start_at = null where id = '{appointment}'`, nil,
			append([]string{"estimate-status/text +1|TBD", "estimate-status/mail ann|!METHOD"}, over(canceling)...)},

		{"quote", "quote.sent", sent, "", nil, append([]string{quoteText, quoteMail}, alerts("quote-sent", "Ann Lee|$1,234.50|"+quoteLink)...)},
		{"quote, no quoteId", "quote.sent", without(sent, "quoteId"), "", nil, quoted("quote-sent", ` SKIP the payload has no "quoteId"`)},
		{"quote, no shareToken", "quote.sent", without(sent, "shareToken"), "", nil, append([]string{quoteText, quoteMail}, alerts("quote-sent", quoteLink)...)},
		{"quote, no row", "quote.sent", strings.Replace(sent, "{quote}", "{nobody}", 1), "", nil, quoted("quote-sent", noQuote)},
		{"quote, null phone", "quote.sent", sent, nullPhone, nil, append([]string{"quote-sent/text" + noPhone, quoteMail}, alerts("quote-sent", "Ann Lee")...)},
		{"quote, null e-mail", "quote.sent", sent, nullEmail, nil, append([]string{quoteText, "quote-sent/mail" + noPhone}, alerts("quote-sent", "Ann Lee")...)},
		{"quote, nobody to alert", "quote.sent", sent, "", map[string]string{"QUOTE_ALERT_EMAIL": ""}, []string{quoteText, quoteMail, "quote-sent/alert SKIP for_each: no items"}},
		{"quote, long values", "quote.sent", sent, `update contacts set first_name = repeat('Ann', 200) where id = '{contact}';
			update quotes set services = jsonb_build_array(repeat('gutters ', 200)), total = 123456789012.345 where id = '{quote}'`, nil,
			append([]string{"quote-sent/text +1|$123,456,789,012.3|" + quoteLink, "quote-sent/mail ann|" + quoteLink}, alerts("quote-sent", quoteLink)...)},

		{"accepted", "quote.decision", decided("accepted"), "", nil, append([]string{
			"quote-decision/text +12025550123|Myst|thanks|quote|$1,234.50", "quote-decision/mail ann@example.com|thanks|quote|$1,234.50"}, alerts("quote-decision", "accepted|Ann Lee|$1,234.50|customer|soon")...)},
		{"declined", "quote.decision", decided("declined"), "", nil, append([]string{
			"quote-decision/text +12025550123|Myst|declined|quote|!thanks", "quote-decision/mail ann@example.com|declined|quote|!thanks"}, alerts("quote-decision", "declined|Ann Lee")...)},
		{"undecided", "quote.decision", decided("maybe"), "", nil, quoted("quote-decision", ` SKIP when: payload.decision in ["accepted", "declined"]`)},
		{"decision, no decision", "quote.decision", without(decided("x"), "decision"), "", nil, quoted("quote-decision", ` SKIP when: payload.decision in`)},
		{"decision, no quoteId", "quote.decision", without(decided("accepted"), "quoteId"), "", nil, quoted("quote-decision", ` SKIP the payload has no "quoteId"`)},
		{"decision, no row", "quote.decision", strings.Replace(decided("accepted"), "{quote}", "{nobody}", 1), "", nil, quoted("quote-decision", noQuote)},
		{"decision, no source and notes", "quote.decision", without(without(decided("accepted"), "notes"), "source"), "", nil, append([]string{"quote-decision/text +1|thanks", "quote-decision/mail ann|thanks"}, alerts("quote-decision", "by customer|!Notes")...)},
		{"decision, null phone", "quote.decision", decided("accepted"), nullPhone, nil, append([]string{"quote-decision/text" + noPhone, "quote-decision/mail ann|thanks"}, alerts("quote-decision", "accepted")...)},
		{"decision, null e-mail", "quote.decision", decided("accepted"), nullEmail, nil, append([]string{"quote-decision/text +1|thanks", "quote-decision/mail" + noPhone}, alerts("quote-decision", "accepted")...)},

		{"paid", "payment.recorded", paid, "", nil, []string{"payment/note |insert into appointment_notes"}},
		{"paid, no appointmentId", "payment.recorded", without(paid, "appointmentId"), "", nil, []string{`payment/note SKIP the payload has no "appointmentId"`}},
		{"paid, no amount", "payment.recorded", without(paid, "amountCents"), "", nil, []string{`payment/note SKIP the payload has no "amountCents"`}},
		{"paid, no row", "payment.recorded", strings.Replace(paid, "{appointment}", "{nobody}", 1), "", nil, []string{"payment/note SKIP lookup appointment found no row"}},

		{"stage", "pipeline.stage_request", staged, "", nil, []string{`pipeline/stage |insert into crm_pipeline|"quoted"`}},
		{"stage, unknown", "pipeline.stage_request", strings.Replace(staged, "Quoted", "dreaming", 1), "", nil, []string{`pipeline/stage SKIP when: lower(trim(payload.stage)) in ["new"`}},
		{"stage, no stage", "pipeline.stage_request", without(staged, "stage"), "", nil, []string{`pipeline/stage SKIP when: lower(trim(payload.stage)) in`}},
		{"stage, no contactId", "pipeline.stage_request", without(staged, "contactId"), "", nil, []string{`pipeline/stage SKIP the payload has no "contactId"`}},
		{"stage, no row", "pipeline.stage_request", strings.Replace(staged, "{contact}", "{nobody}", 1), "", nil, []string{"pipeline/stage SKIP lookup contact found no row"}},

		{"anything else", "invoice.sent", `{}`, "", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := seed(t, db)
			for _, s := range strings.Split(c.fill(tt.change), ";") {
				if strings.TrimSpace(s) != "" {
					pgtest.Exec(t, db, s)
				}
			}
			env := maps.Clone(mystosEnv)
			maps.Copy(env, tt.env)
			messages := plan(t, db, load(t, "mystos", env), tt.typ, c.fill(tt.payload))
			if len(messages) != len(tt.want) {
				t.Errorf("%d messages, want %d", len(messages), len(tt.want))
			}
			for i, m := range messages {
				want := strings.Split(c.fill(tt.want[min(i, len(tt.want)-1)]), "|")
				got := m.Route + "/" + m.Step + " " + m.Recipient
				if m.Skip != "" {
					got = m.Route + "/" + m.Step + " SKIP " + m.Skip
				}
				if m.Refused != "" {
					got = m.Route + "/" + m.Step + " REFUSED " + m.Refused
				}
				if !strings.HasPrefix(got, want[0]) {
					t.Errorf("got %s\nwant %s", got, want[0])
					continue
				}
				if m.Skip != "" {
					continue
				}
				all := texts(t, m)
				if m.Terms != nil && !m.Terms.At.IsZero() {
					all += "\nat " + m.Terms.At.UTC().Format(time.RFC3339)
				}
				folded := strings.ToLower(all)
				for _, fact := range want[1:] {
					unwanted, not := strings.CutPrefix(fact, "!")
					if strings.Contains(folded, strings.ToLower(unwanted)) == not {
						t.Errorf("%s: %q\n%s", got, fact, all)
					}
				}
			}
		})
	}
}

// TestMystOSCoversTheContract: there is a route for each of the eight types, and
// for nothing else.
func TestMystOSCoversTheContract(t *testing.T) {
	t.Parallel()
	db := withSchema(t, "mystos")
	r := load(t, "mystos", mystosEnv)
	types := []string{"estimate.requested", "estimate.rescheduled", "estimate.status_changed", "lead.created",
		"quote.sent", "quote.decision", "payment.recorded", "pipeline.stage_request"}
	var none []string
	for _, typ := range slices.Concat(types, []string{"estimate.other", "quote.viewed"}) {
		if len(plan(t, db, r, typ, `{}`)) == 0 {
			none = append(none, typ)
		}
	}
	if want := []string{"estimate.other", "quote.viewed"}; !slices.Equal(none, want) {
		t.Errorf("without a route: %v, want %v", none, want)
	}
}
