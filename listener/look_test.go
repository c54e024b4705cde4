package listener_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/twilio"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
	"github.com/outbox-listener/outbox-listener/listener"
)

const (
	smsAccount = "AC1"
	smsToken   = "t0ken-canary"
	smsText    = `{"to": "+15550107788", "body": "Your estimate is ready"}`
)

// smsPolicies are those of the tests, by name.
var smsPolicies = map[string]func(p *dispatch.Policy){
	"hold":        func(*dispatch.Policy) {}, // as twilio.Policy has it
	"resend":      func(p *dispatch.Policy) { p.IfNotFound = dispatch.Resend },
	"never_twice": func(p *dispatch.Policy) { p.OnUnknown = dispatch.NeverTwice },
}

// smsDispatcher sends SMS through the Twilio at url.
func smsDispatcher(url, policy string) (*dispatch.Dispatcher, error) {
	s, err := twilio.New(twilio.Config{AccountSID: smsAccount, AuthToken: smsToken, From: "+15550009999", BaseURL: url})
	if err != nil {
		return nil, err
	}
	p := twilio.Policy
	smsPolicies[policy](&p)
	d := dispatch.New()
	d.Register(dispatch.ChannelSMS, s, p)
	return d, nil
}

// shortLooks has looks follow each other as they do in production, but a hundred
// times faster.
func shortLooks(c *listener.Config) {
	c.LookAfter = []time.Duration{0, 200 * time.Millisecond, 600 * time.Millisecond}
	c.PollInterval = 200 * time.Millisecond
}

func newTwilio(t testing.TB) *standin.Twilio {
	t.Helper()
	server, err := standin.NewTwilio(smsAccount, smsToken)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server
}

// smsLedger is what the ledger has of an SMS.
type smsLedger struct {
	state, sid, reason string
	attempts           int
	looks              []string
}

func smsOf(t testing.TB, db *pgtest.DB, n int) (out []smsLedger) {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), `select state, coalesce(provider_id, ''), coalesce(last_error, ''), attempts,
		array(select l->>'verdict' from jsonb_array_elements(coalesce(looks, '[]')) with ordinality as x (l, n) order by n)
		from outbox.deliveries order by id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var l smsLedger
		if err := rows.Scan(&l.state, &l.sid, &l.reason, &l.attempts, &l.looks); err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	if len(out) != n && n > 0 {
		t.Fatalf("%d deliveries, want %d: %+v", len(out), n, out)
	}
	return out
}

// TestLooks: what becomes of an SMS when the answer to it is lost.
func TestLooks(t *testing.T) {
	t.Parallel()
	taken, lost := standin.TwilioReply{CutAfter: true}, standin.TwilioReply{CutBefore: true}
	trial := func(b string) string { return "Sent from your Twilio trial account - " + b }
	for _, tt := range []struct {
		name    string
		policy  string
		answers []standin.TwilioReply // to the first requests; later ones are taken
		events  int                   // all of the same words
		list    func(n int) standin.TwilioList
		hidden  bool
		states  []string // in order of the alphabet
		taken   int
		looks   []string // of the first delivery; nil: not looked at
		reason  string   // of the first delivery
	}{
		{"it has it", "hold", []standin.TwilioReply{taken}, 1, nil, false, []string{"delivered 1"}, 1, []string{"found"}, "the provider has it"},
		{"failed after it was taken", "hold", []standin.TwilioReply{{Status: 500, Taken: true}}, 1, nil, false, []string{"delivered 1"}, 1, []string{"found"}, ""},
		{"it does not have it", "hold", []standin.TwilioReply{lost}, 1, nil, false, []string{"held 1"}, 0,
			[]string{"not_there", "not_there", "not_there"}, "the provider does not have it"},
		{"it does not have it, and it is sent again", "resend", []standin.TwilioReply{lost}, 1, nil, false, []string{"delivered 2"}, 1,
			[]string{"not_there", "not_there", "not_there"}, ""},
		{"listed after a while", "resend", []standin.TwilioReply{taken}, 1,
			func(int) standin.TwilioList { return standin.TwilioList{After: 100 * time.Millisecond} }, false, []string{"delivered 1"}, 1, nil, ""},
		{"never listed", "hold", []standin.TwilioReply{taken}, 1, nil, true, []string{"held 1"}, 1, []string{"not_there", "not_there", "not_there"}, ""},
		{"the list is down for a while", "resend", []standin.TwilioReply{taken}, 1, func(n int) standin.TwilioList {
			if n < 3 {
				return standin.TwilioList{Status: 503}
			}
			return standin.TwilioList{}
		}, false, []string{"delivered 1"}, 1, []string{"failed", "failed", "found"}, ""},
		{"the list is down for good", "resend", []standin.TwilioReply{taken}, 1,
			func(int) standin.TwilioList { return standin.TwilioList{Status: 403} }, false, []string{"held 1"}, 1,
			[]string{"failed", "failed", "failed", "failed"}, "did not answer when it was asked"},
		{"a trial account", "resend", []standin.TwilioReply{taken}, 1,
			func(int) standin.TwilioList { return standin.TwilioList{Rewrite: trial} }, false, []string{"held 1"}, 1,
			[]string{"inconclusive", "inconclusive", "inconclusive"}, "trial accounts"},
		{"two of the same, both taken", "hold", []standin.TwilioReply{taken, taken}, 2, nil, false, []string{"delivered 1", "delivered 1"}, 2, nil, ""},
		{"two of the same, one taken", "hold", []standin.TwilioReply{taken, lost}, 2, nil, false, []string{"delivered 1", "held 1"}, 1, nil, ""},
		{"two of the same, one answered", "hold", []standin.TwilioReply{{}, lost}, 2, nil, false, []string{"delivered 1", "held 1"}, 1, nil, ""},
		{"two of the same, one answered, one to be sent again", "resend", []standin.TwilioReply{{}, lost}, 2, nil, false, []string{"delivered 1", "delivered 2"}, 2, nil, ""},
		{"never twice, and taken", "never_twice", []standin.TwilioReply{taken}, 1, nil, false, []string{"dead 1"}, 1, []string{}, "unknown_outcome"},
		{"never twice, and not taken", "never_twice", []standin.TwilioReply{lost}, 1, nil, false, []string{"dead 1"}, 0, []string{}, "unknown_outcome"},
		{"never twice, and refused for now", "never_twice", []standin.TwilioReply{{Status: 429, Code: 20429}}, 1, nil, false, []string{"delivered 2"}, 1, []string{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, server := pgtest.New(t), newTwilio(t)
			server.Hide(tt.hidden)
			if tt.list != nil {
				server.ScriptList(func(n int, _ *http.Request) standin.TwilioList { return tt.list(n) })
			}
			server.Script(func(n int, _ *http.Request) standin.TwilioReply {
				if n <= len(tt.answers) {
					return tt.answers[n-1]
				}
				return standin.TwilioReply{}
			})
			d, err := smsDispatcher(server.URL(), tt.policy)
			if err != nil {
				t.Fatal(err)
			}
			start(t, newListener(t, db, d, func(c *listener.Config) {
				shortLooks(c)
				c.MaxAttempts = 4
			}))
			pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'sms.send', $1::jsonb from generate_series(1, $2)`, smsText, tt.events)
			pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
				pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() where state = 'retry' and due_at > now() + interval '1 second'`)
				var got []string
				for _, l := range smsOf(t, db, 0) {
					got = append(got, fmt.Sprint(l.state, " ", l.attempts))
				}
				slices.Sort(got)
				return slices.Equal(got, tt.states), fmt.Sprintf("%q %+v", got, smsOf(t, db, 0))
			})
			all := smsOf(t, db, tt.events)
			if l := all[0]; tt.looks != nil && !slices.Equal(l.looks, tt.looks) || !strings.Contains(l.reason, tt.reason) || strings.Contains(l.reason, "7788") {
				t.Errorf("looks %q, because %q; want %q, because of %q", l.looks, l.reason, tt.looks, tt.reason)
			}
			if n := len(server.Received()); n != tt.taken {
				t.Errorf("%d were taken, want %d", n, tt.taken)
			}
			sids := map[string]bool{}
			for _, l := range all {
				if (l.sid != "") != (l.state == "delivered") || sids[l.sid] && l.sid != "" {
					t.Errorf("SIDs: %+v", all)
				}
				sids[l.sid] = true
			}
			for _, r := range server.Received() {
				delete(sids, r.ID)
			}
			delete(sids, "")
			if len(sids) > 0 {
				t.Errorf("SIDs that nobody has: %v", sids)
			}
		})
	}
}

// unheard is a Twilio that takes each SMS and hangs up before it says so, and what sends
// to it, by the policy.
func unheard(t *testing.T, policy string) (*pgtest.DB, *standin.Twilio, *dispatch.Dispatcher) {
	t.Helper()
	server := newTwilio(t)
	server.Script(func(int, *http.Request) standin.TwilioReply { return standin.TwilioReply{CutAfter: true} })
	d, err := smsDispatcher(server.URL(), policy)
	if err != nil {
		t.Fatal(err)
	}
	return pgtest.New(t), server, d
}

// TestLookDoesNotTakeWhatMayBeAnswered: as long as the answer to the same words may
// come, what the provider has is left to it; and when it has come, it is not ours.
func TestLookDoesNotTakeWhatMayBeAnswered(t *testing.T) {
	t.Parallel()
	db, server, d := unheard(t, "hold")
	insert(t, db, "sms.send", smsText)
	once := func(want string, looks ...string) {
		t.Helper()
		pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() where state = 'uncertain'`)
		if _, err := newListener(t, db, d, shortLooks).Once(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		all := smsOf(t, db, 0)
		if l := all[len(all)-1]; l.state != want || !slices.Equal(l.looks, looks) || l.sid != "" {
			t.Fatalf("%+v; want %s, %q", l, want, looks)
		}
	}
	once("uncertain")
	// Another listener is sending the same words at this moment.
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
			state, attempts, claim, content, likeness)
		select '00000000-0000-0000-0000-000000000001', event_id, event_seq, event_type, event_created_at, 'other', step, channel, recipient,
			'sending', 1, gen_random_uuid(), content, likeness
		from outbox.deliveries`)
	once("uncertain", "inconclusive")
	pgtest.Exec(t, db, `update outbox.deliveries set state = 'delivered', finished_at = now(), provider_id = $1 where route = 'other'`, server.Received()[0].ID)
	once("uncertain", "inconclusive", "not_there")
}

// TestLookAfterTheConfigurationChanged: what was sent from a number that is not the
// one of today cannot be looked for.
func TestLookAfterTheConfigurationChanged(t *testing.T) {
	t.Parallel()
	db, server, d := unheard(t, "resend")
	insert(t, db, "sms.send", smsText)
	if _, err := newListener(t, db, d, shortLooks).Once(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if l := smsOf(t, db, 1)[0]; l.state != "uncertain" {
		t.Fatalf("%+v", l)
	}
	redirected := newListener(t, db, d, func(c *listener.Config) {
		shortLooks(c)
		c.Redirect.SMS = "+15550100001"
	})
	if _, err := redirected.Once(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if l := smsOf(t, db, 1)[0]; l.state != "held" || !strings.Contains(l.reason, "the configuration of today") || len(server.Received()) != 1 {
		t.Errorf("%+v", l)
	}
}

// TestLookIsFenced: a look that comes back after a take-over changes nothing, and
// what it had found before a crash counts without asking again.
func TestLookIsFenced(t *testing.T) {
	t.Parallel()
	db, server, d := unheard(t, "hold")
	id := insert(t, db, "sms.send", smsText)
	once := func() {
		t.Helper()
		if _, err := newListener(t, db, d, shortLooks).Once(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	once()
	server.ScriptList(func(int, *http.Request) standin.TwilioList { // while the list is read
		pgtest.Exec(t, db, `update outbox.deliveries set claim = gen_random_uuid(), due_at = now() + interval '1 minute' where event_id = $1`, id)
		return standin.TwilioList{}
	})
	once()
	if l := smsOf(t, db, 1)[0]; l.state != "uncertain" || l.sid != "" || len(l.looks) > 0 {
		t.Errorf("after the take-over: %+v", l)
	}
	listed := server.Listed()
	pgtest.Exec(t, db, `update outbox.deliveries set provider_id = 'SM1', due_at = now()`)
	once()
	if l := smsOf(t, db, 1)[0]; l.state != "delivered" || l.sid != "SM1" || server.Listed() != listed {
		t.Errorf("found before: %+v, asked %d times more", l, server.Listed()-listed)
	}
}

// TestUncertainIsAnnounced: what must not simply be sent again leaves a trace
// before it is sent, whatever its channel does otherwise.
func TestUncertainIsAnnounced(t *testing.T) {
	t.Parallel()
	for _, unknown := range []dispatch.OnUnknown{dispatch.Hold, dispatch.NeverTwice, dispatch.Reconcile} {
		t.Run(string(unknown), func(t *testing.T) {
			t.Parallel()
			db, b := pgtest.New(t), newBlocker()
			r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
				return []dispatch.Message{step("reminder", dispatch.Terms{Freeze: true, Retry: dispatch.Retries{OnUnknown: unknown}})}, nil
			}}
			start(t, newListener(t, db, routed(b, plain, r), nil))
			defer close(b.gate)
			id := insert(t, db, "e", `{}`)
			<-b.entered
			if l := ledgerOf(t, db, id); l.State != "sending" || l.Attempts != 1 {
				t.Errorf("while it is sent: %+v", l)
			}
		})
	}
}
