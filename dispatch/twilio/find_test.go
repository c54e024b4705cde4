package twilio_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

func TestFind(t *testing.T) {
	const words = "Your estimate is ready — see “example.com”"
	ours := dispatch.SMS{To: to, Body: words}
	same := func(n int) []dispatch.SMS { return make([]dispatch.SMS, n) } // zero: as ours
	for _, tt := range []struct {
		name  string
		sent  []dispatch.SMS // before the look; those without a recipient are ours
		list  standin.TwilioList
		since time.Duration // ago; 0 means a minute
		alike []int         // places in sent
		doubt string
	}{
		{"none", nil, standin.TwilioList{}, 0, nil, ""},
		{"ours", same(1), standin.TwilioList{}, 0, []int{0}, ""},
		{"ours, on the second page", []dispatch.SMS{{}, {To: to, Body: "a"}, {To: to, Body: "b"}}, standin.TwilioList{PageSize: 2}, 0, []int{0}, ""},
		{"ours, on the last of ten pages", append(same(1), others(9)...), standin.TwilioList{PageSize: 1}, 0, []int{0}, ""},
		{"beyond ten pages", append(same(1), others(10)...), standin.TwilioList{PageSize: 1}, 0, nil, "too long"},
		{"two of the same, oldest first", same(2), standin.TwilioList{PageSize: 1}, 0, []int{0, 1}, ""},
		{"not listed yet", same(1), standin.TwilioList{After: time.Hour}, 0, nil, ""},
		{"other words", []dispatch.SMS{{To: to, Body: "Your invoice is ready"}}, standin.TwilioList{}, 0, nil, ""},
		{"to somebody else", []dispatch.SMS{{To: "+15550100000", Body: words}}, standin.TwilioList{}, 0, nil, ""},
		{"from another sender", []dispatch.SMS{{To: to, From: "Myst", Body: words}}, standin.TwilioList{}, 0, nil, ""},
		{"before our attempt", same(1), standin.TwilioList{}, -time.Hour, nil, ""},
		{"within the slack before our attempt", same(1), standin.TwilioList{}, -2 * time.Second, []int{0}, ""},
		{"a trial account", same(1), standin.TwilioList{Rewrite: func(b string) string { return "Sent from your Twilio trial account - " + b }}, 0, nil, "trial accounts"},
		{"smart encoding", same(1), standin.TwilioList{Rewrite: strings.NewReplacer("—", "-", "“", `"`, "”", `"`).Replace}, 0, nil, "almost the same"},
		{"smart encoding of a trial account", same(1), standin.TwilioList{Rewrite: func(b string) string { return "trial - " + strings.ReplaceAll(b, "—", "-") }}, 0, nil, "almost the same"},
		{"redacted", same(1), standin.TwilioList{Rewrite: func(string) string { return "" }}, 0, nil, "hides the words"},
		{"starred out", same(1), standin.TwilioList{Rewrite: func(string) string { return "*****" }}, 0, nil, "hides the words"},
		{"redacted, and not in our time", same(1), standin.TwilioList{Rewrite: func(string) string { return "" }}, -time.Hour, nil, ""},
		{"a space more", same(1), standin.TwilioList{Rewrite: func(b string) string { return b + " " }}, 0, nil, "almost the same"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			s := sender(t, server.URL(), nil)
			for _, m := range tt.sent {
				if m.To == "" {
					m = ours
				}
				if _, e := send(t, s, sms(m)); e != nil {
					t.Fatal(e)
				}
			}
			server.ScriptList(func(int, *http.Request) standin.TwilioList { return tt.list })
			if tt.since == 0 {
				tt.since = time.Minute
			}
			got, err := s.Find(t.Context(), sms(ours), time.Now().Add(-tt.since))
			if err != nil {
				t.Fatal(err)
			}
			received := server.Received()
			want := map[string]bool{}
			for _, i := range tt.alike {
				want[received[i].ID] = true
			}
			for _, a := range got.Alike {
				if !want[a.ProviderID] {
					t.Errorf("found %s", a.ProviderID)
				}
				delete(want, a.ProviderID)
			}
			if len(want) > 0 || (got.Doubt != "") != (tt.doubt != "") || !strings.Contains(got.Doubt, tt.doubt) || strings.Contains(got.Doubt, words) {
				t.Errorf("not found %v, doubt %q; want %q", want, got.Doubt, tt.doubt)
			}
		})
	}
}

// others are n messages to the same recipient.
func others(n int) (out []dispatch.SMS) {
	for i := range n {
		out = append(out, dispatch.SMS{To: to, Body: fmt.Sprint("number ", i)})
	}
	return out
}

// TestFindAsks: the list is asked for by recipient and sender alone, since a message
// that is queued has no date of sending.
func TestFindAsks(t *testing.T) {
	server := start(t)
	var queries []string
	server.ScriptList(func(_ int, r *http.Request) standin.TwilioList {
		queries = append(queries, r.URL.Query().Encode())
		if r.Body != nil && r.ContentLength > 0 {
			t.Error("a GET with a body")
		}
		return standin.TwilioList{PageSize: 1}
	})
	s := sender(t, server.URL(), nil)
	for range 2 {
		if _, e := send(t, s, sms(dispatch.SMS{To: to, Body: "hello"})); e != nil {
			t.Fatal(e)
		}
	}
	if _, err := s.Find(t.Context(), sms(dispatch.SMS{To: to, Body: "hello"}), time.Now()); err != nil {
		t.Fatal(err)
	}
	want := []string{"From=%2B15550009999&PageSize=500&To=%2B15550107788", "From=%2B15550009999&Page=1&PageSize=500&To=%2B15550107788"}
	if fmt.Sprint(queries) != fmt.Sprint(want) {
		t.Errorf("asked %q, want %q", queries, want)
	}
}

// TestFindFails: no answer, or one that cannot be read, is never "it is not there".
func TestFindFails(t *testing.T) {
	server := start(t)
	s := sender(t, server.URL(), nil)
	for _, tt := range []struct {
		name string
		list standin.TwilioList
		kind dispatch.Kind
	}{
		{"down", standin.TwilioList{Status: 503}, dispatch.Unknown},
		{"too many requests", standin.TwilioList{Status: 429, Code: 20429}, dispatch.Throttled},
		{"not allowed to list", standin.TwilioList{Status: 403}, dispatch.Down},
		{"a redirect", standin.TwilioList{Status: 302}, dispatch.Down},
		{"hung up", standin.TwilioList{Cut: true}, dispatch.Unknown},
		{"an empty object", standin.TwilioList{Body: `{}`}, dispatch.Down},
		{"null", standin.TwilioList{Body: `null`}, dispatch.Down},
		{"no JSON", standin.TwilioList{Body: `<html>` + token}, dispatch.Down},
		{"broken off", standin.TwilioList{Body: `{"messages":[{"sid":"SM1"`}, dispatch.Down},
		{"fields of other types", standin.TwilioList{Body: `{"messages":[{"sid":1}]}`}, dispatch.Down},
		{"larger than anything", standin.TwilioList{Body: `{"messages":[]` + strings.Repeat(" ", 9<<20) + `}`}, dispatch.Down},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server.ScriptList(func(int, *http.Request) standin.TwilioList { return tt.list })
			f, err := s.Find(t.Context(), sms(dispatch.SMS{To: to, Body: "hello"}), time.Now())
			e, ok := errors.AsType[*dispatch.Error](err)
			if !ok || e.Kind != tt.kind || len(f.Alike) > 0 || strings.Contains(err.Error(), token) {
				t.Errorf("Find = %+v, %v; want %s", f, err, tt.kind)
			}
		})
	}
	if _, err := s.Find(t.Context(), sms(dispatch.SMS{To: "nobody", Body: "hello"}), time.Now()); err == nil {
		t.Error("found what cannot be sent")
	}
}
