package listener_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/twilio"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
	"github.com/outbox-listener/outbox-listener/listener"
)

const (
	sidA = "SM0000000000000000000000000000000a"
	sidB = "SM0000000000000000000000000000000b"
)

// reported is what the ledger has of a delivery that a provider reports on.
type reported struct {
	state, sid, receipt, code string
	dueNow, stuck, at         bool
}

func reportedOf(t testing.TB, db *pgtest.DB, id uuid.UUID) (r reported) {
	t.Helper()
	err := db.Pool.QueryRow(t.Context(), `select state, coalesce(provider_id, ''), coalesce(receipt, ''), coalesce(receipt_code, ''),
		coalesce(due_at <= clock_timestamp(), false), stuck_at is not null, receipt_at is not null from outbox.deliveries where id = $1`, id).
		Scan(&r.state, &r.sid, &r.receipt, &r.code, &r.dueNow, &r.stuck, &r.at)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// deliveryRow makes a row of the ledger and returns its id. The columns of set are
// those that differ from one that was delivered, those after a semicolon later.
func deliveryRow(t testing.TB, db *pgtest.DB, set string) uuid.UUID {
	t.Helper()
	id := uuid.New()
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
			state, attempts, provider_id, finished_at)
		values ($1, gen_random_uuid(), 1, 'sms.send', now(), 'direct', 'sms', 'sms', '+1***', 'delivered', 1, '`+sidA+`', now())`, id)
	for one := range strings.SplitSeq(set, "; ") {
		if one != "" {
			pgtest.Exec(t, db, `update outbox.deliveries set `+one+` where id = $1`, id)
		}
	}
	return id
}

// TestReportsInAnyOrder: what is on record in the end does not depend on the order
// in which reports came, nor on how often each came.
func TestReportsInAnyOrder(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	l := newListener(t, db, dispatch.New(), nil)
	for _, tt := range []struct {
		name  string
		fates []dispatch.Fate
		want  dispatch.Fate
	}{
		{"as it goes", []dispatch.Fate{"queued", "sent", "delivered"}, "delivered"},
		{"it did not arrive", []dispatch.Fate{"queued", "sent", "undelivered"}, "undelivered"},
		{"it did not leave", []dispatch.Fate{"queued", "failed"}, "failed"},
		{"it was withdrawn", []dispatch.Fate{"queued", "canceled"}, "canceled"},
		{"it arrived after all", []dispatch.Fate{"sent", "undelivered", "delivered"}, "delivered"},
		{"what is none of ours", []dispatch.Fate{"sent", "", "unheard_of"}, "sent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 6 {
				id := deliveryRow(t, db, "")
				order := slices.Repeat(tt.fates, 2)
				rand.Shuffle(len(order), func(i, k int) { order[i], order[k] = order[k], order[i] })
				for _, f := range order {
					if known, err := l.Report(t.Context(), dispatch.Report{Delivery: id, ProviderID: sidA, Fate: f, Code: code(f)}); err != nil || !known {
						t.Fatalf("%s: %t, %v", f, known, err)
					}
				}
				want := reported{state: "delivered", sid: sidA, receipt: string(tt.want), code: code(tt.want), at: true}
				if got := reportedOf(t, db, id); got != want {
					t.Errorf("%v: %+v; want %+v", order, got, want)
				}
			}
		})
	}
	for _, id := range []uuid.UUID{uuid.New(), {}} {
		if known, err := l.Report(t.Context(), dispatch.Report{Delivery: id, ProviderID: sidA, Fate: "delivered"}); known || err != nil {
			t.Errorf("unknown: %t, %v", known, err)
		}
	}
}

// code is a reason that goes with f.
func code(f dispatch.Fate) string {
	if f.Final() && f != dispatch.FateDelivered {
		return "3000" + fmt.Sprint(len(f)%10)
	}
	return ""
}

// TestReportProves: what a report says of a delivery that is not known to be taken, by
// where it stands.
func TestReportProves(t *testing.T) {
	t.Parallel()
	const nobodys, leased, again = "claim = null", "claim = gen_random_uuid()", "attempts = 2"
	open := func(state, more string) string {
		return "state = '" + state + "', finished_at = null, provider_id = null, due_at = now() + interval '1 hour', likeness = 7; " + more
	}
	gone := reported{sid: sidA, receipt: "undelivered", code: "30003", at: true}
	with := func(r reported, state string, due bool) reported {
		r.state, r.dueNow = state, due
		return r
	}
	for _, tt := range []struct {
		name, set, other string // other: columns of one that is alike
		want             reported
	}{
		{"uncertain", open("uncertain", nobodys), "", with(gone, "uncertain", true)},
		{"uncertain, of a lease that ended with a record", open("uncertain", "claim = '00000000-0000-5000-8000-000000000000'"), "", with(gone, "uncertain", true)},
		{"uncertain, and being looked for", open("uncertain", leased), "", with(gone, "uncertain", false)},
		{"being sent", open("sending", leased), "", with(gone, "sending", false)},
		{"being sent, with its event", open("sending", leased+", due_at = null"), "", with(gone, "sending", false)},
		{"left by a dead listener, and due", open("sending", leased+", due_at = now() - interval '1 second'"), "", with(gone, "sending", true)},
		{"handed back", open("sending", nobodys), "", with(gone, "sending", true)},
		{"to be sent again, since it was not found", open("retry", nobodys), "", with(gone, "retry", true)},
		{"put off", open("ready", nobodys), "", with(gone, "ready", true)},
		{"held, for nobody knew", open("held", "due_at = null, claim = null, stuck_at = now()"), "", with(gone, "uncertain", true)},
		{"held by a person", open("held", "due_at = null, claim = null, stuck_at = now(), held_from = 'uncertain'"), "",
			reported{state: "held", sid: sidA, receipt: "undelivered", code: "30003", at: true, stuck: true}},
		{"dead, for nobody knew", "state = 'dead', provider_id = null, stuck_at = now()", "",
			reported{state: "dead", sid: sidA, receipt: "undelivered", code: "30003", at: true, stuck: true}},
		{"never attempted", open("ready", nobodys+", attempts = 0"), "", reported{state: "ready"}},
		{"another took that message", open("uncertain", nobodys), "likeness = 7", reported{state: "uncertain", receipt: "undelivered", code: "30003", at: true}},
		{"a stranger has that name", open("uncertain", nobodys), "likeness = 8", with(gone, "uncertain", true)},
		{"another message of it is on record", "provider_id = '" + sidB + "', " + again, "", reported{state: "delivered", sid: sidB}},
		{"it was found to be another's, which is the same", "provider_id = '" + sidB + "'", "", with(reported{sid: sidB, receipt: "undelivered", code: "30003", at: true}, "delivered", false)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			if tt.other != "" {
				deliveryRow(t, db, tt.other)
			}
			id := deliveryRow(t, db, tt.set)
			l := newListener(t, db, dispatch.New(), nil)
			for range 2 {
				if known, err := l.Report(t.Context(), dispatch.Report{Delivery: id, ProviderID: sidA, Fate: "undelivered", Code: "30003"}); err != nil || !known {
					t.Fatalf("%t, %v", known, err)
				}
				if got := reportedOf(t, db, id); got != tt.want {
					t.Errorf("%+v; want %+v", got, tt.want)
				}
			}
		})
	}
}

// smsWithCallbacks sends SMS through server, whose reports wait for the
// listener that the returned function is given.
func smsWithCallbacks(t testing.TB, server *standin.Twilio, policy dispatch.Policy, more ...func(*dispatch.Dispatcher)) (*dispatch.Dispatcher, func(*listener.Listener)) {
	t.Helper()
	ready := make(chan struct{})
	var l *listener.Listener
	var s *twilio.Sender
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-ready
		body, _ := io.ReadAll(r.Body)
		report, err := s.ReadCallback(r.URL.RawQuery, r.Header, body)
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if _, err := l.Report(r.Context(), report); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(web.Close)
	var err error
	if s, err = twilio.New(twilio.Config{AccountSID: smsAccount, AuthToken: smsToken, From: "+15550009999", BaseURL: server.URL(), Callback: web.URL + "/status"}); err != nil {
		t.Fatal(err)
	}
	d := dispatch.New()
	d.Register(dispatch.ChannelSMS, s, policy)
	for _, f := range more {
		f(d)
	}
	return d, func(to *listener.Listener) {
		l = to
		close(ready)
	}
}

// TestReports: a listener, a Twilio that reports, and what becomes of an SMS.
func TestReports(t *testing.T) {
	t.Parallel()
	call := func(status string, code int) standin.TwilioCallback {
		return standin.TwilioCallback{Status: status, Code: code}
	}
	early := func(status string) standin.TwilioCallback { return standin.TwilioCallback{Status: status, Early: true} }
	lost := standin.TwilioReply{CutAfter: true}
	for _, tt := range []struct {
		name      string
		onUnknown dispatch.OnUnknown
		answer    standin.TwilioReply
		calls     []standin.TwilioCallback
		listed    bool // otherwise Twilio lists nothing
		state     string
		receipt   string
		code      string
		sent      int
	}{
		{"delivered", dispatch.Reconcile, standin.TwilioReply{}, []standin.TwilioCallback{call("sent", 0), call("delivered", 0)}, true, "delivered", "delivered", "", 1},
		{"undelivered", dispatch.Reconcile, standin.TwilioReply{}, []standin.TwilioCallback{call("sent", 0), call("undelivered", 30003)}, true, "delivered", "undelivered", "30003", 1},
		{"in another order, again", dispatch.Reconcile, standin.TwilioReply{}, []standin.TwilioCallback{call("delivered", 0), call("sent", 0), call("queued", 0), call("delivered", 0)}, true, "delivered", "delivered", "", 1},
		{"before the answer", dispatch.Reconcile, standin.TwilioReply{}, []standin.TwilioCallback{early("queued"), early("sent"), early("delivered")}, true, "delivered", "delivered", "", 1},
		{"signed by somebody else", dispatch.Reconcile, standin.TwilioReply{}, []standin.TwilioCallback{{Status: "undelivered", Token: "evil"}, call("sent", 0)}, true, "delivered", "sent", "", 1},
		{"the answer is lost, and it reports before that", dispatch.Reconcile, lost, []standin.TwilioCallback{early("sent"), call("delivered", 0)}, false, "delivered", "delivered", "", 1},
		{"the answer is lost, and it reports later", dispatch.Reconcile, lost, []standin.TwilioCallback{{Status: "sent", After: 100 * time.Millisecond}}, false, "delivered", "sent", "", 1},
		{"the answer is lost, it is held, and then it reports", dispatch.Hold, lost, []standin.TwilioCallback{{Status: "undelivered", Code: 30005, After: 300 * time.Millisecond}}, false, "delivered", "undelivered", "30005", 1},
		{"the answer is lost, it reported before that, and it would be held", dispatch.Hold, lost, []standin.TwilioCallback{early("sent")}, false, "delivered", "sent", "", 1},
		{"the answer is lost, it reported before that, and it must not be sent twice", dispatch.NeverTwice, lost, []standin.TwilioCallback{early("sent")}, false, "dead", "sent", "", 1},
		{"the answer is lost, and it reports before it is sent again", dispatch.Resend, lost, []standin.TwilioCallback{early("sent")}, false, "delivered", "sent", "", 1},
		{"the answer is lost, and it must not be sent twice", dispatch.NeverTwice, lost, []standin.TwilioCallback{{Status: "delivered", After: 100 * time.Millisecond}}, false, "dead", "delivered", "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, server := pgtest.New(t), newTwilio(t)
			server.Hide(!tt.listed)
			server.Script(func(int, *http.Request) standin.TwilioReply { return tt.answer })
			server.ScriptCallbacks(func(int, standin.Received) []standin.TwilioCallback { return tt.calls })
			p := twilio.Policy
			p.OnUnknown = tt.onUnknown
			d, to := smsWithCallbacks(t, server, p)
			l := newListener(t, db, d, func(c *listener.Config) {
				shortLooks(c)
				c.LookAfter = []time.Duration{0, time.Second, 10 * time.Second}
			})
			to(l)
			start(t, l)
			insert(t, db, "sms.send", smsText)
			pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
				var state, receipt, sid, code string
				_ = db.Pool.QueryRow(t.Context(), `select state, coalesce(receipt, ''), coalesce(provider_id, ''), coalesce(receipt_code, '') from outbox.deliveries`).
					Scan(&state, &receipt, &sid, &code)
				return state == tt.state && receipt == tt.receipt && code == tt.code && strings.HasPrefix(sid, "SM") && len(server.Reported()) == len(tt.calls),
					fmt.Sprintf("%s, receipt %s %s, SID %s, callbacks %v", state, receipt, code, sid, server.Reported())
			})
			processed(t, db, 5*time.Second)
			if n := len(server.Received()); n != tt.sent {
				t.Errorf("%d messages; want %d", n, tt.sent)
			}
			if got := server.Received()[0].ID; smsOf(t, db, 1)[0].sid != got {
				t.Errorf("SID %s; want %s", smsOf(t, db, 1)[0].sid, got)
			}
		})
	}
}
