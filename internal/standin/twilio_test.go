package standin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

func newTwilio(t *testing.T) *Twilio {
	t.Helper()
	s, err := NewTwilio("AC1", "token")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// call makes a request and returns the answer's status and JSON.
func call(t *testing.T, method, target, token string, form url.Values) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("AC1", token)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body map[string]any
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, body
}

const messages = "/2010-04-01/Accounts/AC1/Messages.json"

func TestTwilioCreates(t *testing.T) {
	s := newTwilio(t)
	var seen []Received
	s.OnReceive(func(r Received) { seen = append(seen, r) })
	form := url.Values{"To": {"+15550100"}, "From": {"+15550199"}, "Body": {"a & b + c = 😀"}}
	status, got := call(t, "POST", s.URL()+messages, "token", form)
	if status != 201 {
		t.Fatalf("status %d: %v", status, got)
	}
	sid, _ := got["sid"].(string)
	if !regexp.MustCompile(`^SM[0-9a-f]{32}$`).MatchString(sid) {
		t.Errorf("sid %q", sid)
	}
	created, _ := got["date_created"].(string)
	if at, err := time.Parse(time.RFC1123Z, created); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("date_created %q (%v)", created, err)
	}
	for key, want := range map[string]any{
		"to": "+15550100", "from": "+15550199", "body": "a & b + c = 😀", "status": "queued", "account_sid": "AC1",
		"date_sent": nil, "error_code": nil, "direction": "outbound-api", "num_segments": "1",
		"uri": "/2010-04-01/Accounts/AC1/Messages/" + sid + ".json",
	} {
		if got[key] != want {
			t.Errorf("%s = %v, want %v", key, got[key], want)
		}
	}
	if len(seen) != 1 || seen[0].ID != sid || seen[0].Recipient != "+15550100" || len(s.Received()) != 1 {
		t.Errorf("callback saw %v, received %v", seen, s.Received())
	}
}

func TestTwilioRefuses(t *testing.T) {
	s := newTwilio(t)
	full := func(with func(url.Values)) url.Values {
		form := url.Values{"To": {"+15550100"}, "From": {"+15550199"}, "Body": {"x"}}
		with(form)
		return form
	}
	for _, tt := range []struct {
		name, path, token string
		form              url.Values
		status            int
		code              float64
	}{
		{"token", messages, "wrong", full(func(url.Values) {}), 401, 20003},
		{"account", "/2010-04-01/Accounts/AC2/Messages.json", "token", full(func(url.Values) {}), 401, 20003},
		{"path", "/2010-04-01/Accounts/AC1/Calls.json", "token", full(func(url.Values) {}), 404, 20404},
		{"no To", messages, "token", full(func(f url.Values) { f.Del("To") }), 400, 21604},
		{"no From", messages, "token", full(func(f url.Values) { f.Del("From") }), 400, 21603},
		{"no Body", messages, "token", full(func(f url.Values) { f.Del("Body") }), 400, 21602},
		{"long Body", messages, "token", full(func(f url.Values) { f.Set("Body", strings.Repeat("ä", 1601)) }), 400, 21617},
	} {
		status, got := call(t, "POST", s.URL()+tt.path, tt.token, tt.form)
		if status != tt.status || got["code"] != tt.code {
			t.Errorf("%s: status %d, %v; want %d, code %v", tt.name, status, got, tt.status, tt.code)
		}
	}
	if len(s.Received()) != 0 {
		t.Errorf("received %v", s.Received())
	}
}

func TestTwilioLists(t *testing.T) {
	s := newTwilio(t)
	for i := range 5 {
		for _, to := range []string{"+1555000", "+1555111"} {
			call(t, "POST", s.URL()+messages, "token", url.Values{"To": {to}, "From": {"+1"}, "Body": {fmt.Sprint(i)}})
		}
	}
	var bodies string
	next := messages + "?To=%2B1555000&From=%2B1&PageSize=2"
	for pages := 0; next != ""; pages++ {
		if pages == 5 {
			t.Fatal("the list has no end")
		}
		status, page := call(t, "GET", s.URL()+next, "token", nil)
		if status != 200 {
			t.Fatalf("status %d: %v", status, page)
		}
		for _, m := range page["messages"].([]any) {
			m := m.(map[string]any)
			if m["to"] != "+1555000" {
				t.Errorf("listed %v", m)
			}
			bodies += m["body"].(string)
		}
		next, _ = page["next_page_uri"].(string)
	}
	if bodies != "43210" {
		t.Errorf("listed %s, want newest first", bodies)
	}
	s.Hide(true)
	if _, page := call(t, "GET", s.URL()+messages, "token", nil); len(page["messages"].([]any)) != 0 {
		t.Error("hidden messages are listed")
	}
	if status, _ := call(t, "GET", s.URL()+messages, "wrong", nil); status != 401 {
		t.Errorf("status %d without credentials", status)
	}
}

// What the list says can be scripted.
func TestTwilioListScripted(t *testing.T) {
	s := newTwilio(t)
	for i := range 3 {
		call(t, "POST", s.URL()+messages, "token", url.Values{"To": {"+1"}, "From": {"+2"}, "Body": {fmt.Sprint(i)}})
	}
	for _, tt := range []struct {
		name   string
		script TwilioList
		status int
		listed string
		more   bool
	}{
		{"as it is", TwilioList{}, 200, "210", false},
		{"none is old enough", TwilioList{After: time.Hour}, 200, "", false},
		{"small pages", TwilioList{PageSize: 2}, 200, "21", true},
		{"a trial account", TwilioList{Rewrite: func(b string) string { return "trial - " + b }}, 200, "trial - 2trial - 1trial - 0", false},
		{"down", TwilioList{Status: 503, Code: 20503}, 503, "", false},
	} {
		before := s.Listed()
		s.ScriptList(func(n int, _ *http.Request) TwilioList {
			if n != before+1 {
				t.Errorf("%s: request number %d, want %d", tt.name, n, before+1)
			}
			return tt.script
		})
		status, page := call(t, "GET", s.URL()+messages, "token", nil)
		listed := ""
		all, _ := page["messages"].([]any)
		for _, m := range all {
			listed += m.(map[string]any)["body"].(string)
		}
		if status != tt.status || listed != tt.listed || (page["next_page_uri"] != nil) != tt.more {
			t.Errorf("%s: status %d, listed %q, next %v", tt.name, status, listed, page["next_page_uri"])
		}
	}
	s.ScriptList(func(int, *http.Request) TwilioList { return TwilioList{Cut: true} })
	if res, err := http.Get(s.URL() + "/"); err != nil || res.Body.Close() != nil {
		t.Error(err) // other requests are answered
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL()+messages, nil)
	req.SetBasicAuth("AC1", "token")
	if res, err := http.DefaultClient.Do(req); err == nil {
		res.Body.Close()
		t.Errorf("answered with %s", res.Status)
	}
}

// A reply can be held back after the message was taken.
func TestTwilioAnswersLate(t *testing.T) {
	s := newTwilio(t)
	until := make(chan struct{})
	s.Script(func(int, *http.Request) TwilioReply { return TwilioReply{Until: until} })
	s.OnReceive(func(Received) { close(until) })
	if status, _ := call(t, "POST", s.URL()+messages, "token", url.Values{"To": {"1"}, "From": {"2"}, "Body": {"3"}}); status != 201 {
		t.Errorf("status %d", status)
	}
}
