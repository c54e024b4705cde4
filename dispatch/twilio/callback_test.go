package twilio_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/twilio"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

const callbackURL = "https://hooks.example.com/twilio/status"

func signed(s string) http.Header { return http.Header{"X-Twilio-Signature": {s}} }

// TestSignatureVectors: the samples that Twilio's documentation has had over the years
// (https://www.twilio.com/docs/usage/security).
func TestSignatureVectors(t *testing.T) {
	sample := func(number string) string {
		return url.Values{"CallSid": {"CA1234567890ABCDE"}, "Caller": {number}, "Digits": {"1234"}, "From": {number}, "To": {"+18005551212"}}.Encode()
	}
	for _, tt := range []struct {
		name, base, query, body, token, signature string
	}{
		{"Twilio's", "https://mycompany.com/myapp.php", "foo=1&bar=2", sample("+12349013030"), "12345", "0/KCTR6DLpKmkAf8muzZqo1nDgQ="},
		{"Twilio's, from before", "https://mycompany.com/myapp.php", "foo=1&bar=2", sample("+14158675309"), "12345", "RSOYDt4T1cUTdK1PDd93/VVr8B8="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sender(t, "http://127.0.0.1:1", func(c *twilio.Config) { c.Callback, c.AuthToken = tt.base, dispatch.Secret(tt.token) })
			if _, err := s.ReadCallback(tt.query, signed(tt.signature), []byte(tt.body)); err != nil {
				t.Error(err)
			}
			form, _ := url.ParseQuery(tt.body)
			if got := standin.TwilioSignature(tt.token, tt.base+"?"+tt.query, form); got != tt.signature {
				t.Errorf("the stand-in signs %s", got)
			}
		})
	}
}

func TestReadCallback(t *testing.T) {
	id := uuid.MustParse("0000002a-0000-8000-8000-0123456789ab")
	query, sid := "delivery="+id.String(), "SM"+strings.Repeat("0f", 16)
	form := func(status, code string) url.Values {
		f := url.Values{"AccountSid": {account}, "MessageSid": {sid}, "MessageStatus": {status}, "To": {to}}
		if code != "" {
			f.Set("ErrorCode", code)
		}
		return f
	}
	sign := func(base, query string, f url.Values) http.Header {
		return signed(standin.TwilioSignature(token, base+"?"+query, f))
	}
	json := `{"MessageSid": "` + sid + `", "MessageStatus": "undelivered", "ErrorCode": 30005}`
	jsonQuery := query + "&bodySHA256=" + fmt.Sprintf("%x", sha256.Sum256([]byte(json)))
	long := "SM" + strings.Repeat("0f", 5000)
	for _, tt := range []struct {
		name     string
		callback string // "": callbackURL
		query    string
		header   http.Header
		body     string
		want     dispatch.Report
		refused  bool
	}{
		{"delivered", "", query, sign(callbackURL, query, form("delivered", "")), form("delivered", "").Encode(),
			dispatch.Report{Delivery: id, ProviderID: sid, Fate: dispatch.FateDelivered}, false},
		{"read", "", query, sign(callbackURL, query, form("read", "")), form("read", "").Encode(),
			dispatch.Report{Delivery: id, ProviderID: sid, Fate: dispatch.FateDelivered}, false},
		{"undelivered", "", query, sign(callbackURL, query, form("undelivered", "30003")), form("undelivered", "30003").Encode(),
			dispatch.Report{Delivery: id, ProviderID: sid, Fate: dispatch.FateUndelivered, Code: "30003"}, false},
		{"a status that is not known", "", query, sign(callbackURL, query, form("partially_delivered", "")), form("partially_delivered", "").Encode(),
			dispatch.Report{Delivery: id, ProviderID: sid}, false},
		{"a SID and a code that are none", "", query, sign(callbackURL, query, url.Values{"MessageSid": {long}, "MessageStatus": {"sent"}, "ErrorCode": {"-1"}}),
			url.Values{"MessageSid": {long}, "MessageStatus": {"sent"}, "ErrorCode": {"-1"}}.Encode(), dispatch.Report{Delivery: id, Fate: dispatch.FateSent}, false},
		{"no delivery", "", "", signed(standin.TwilioSignature(token, callbackURL, form("sent", ""))), form("sent", "").Encode(),
			dispatch.Report{ProviderID: sid, Fate: dispatch.FateSent}, false},
		{"a delivery that is none", "", "delivery=4711", sign(callbackURL, "delivery=4711", form("sent", "")), form("sent", "").Encode(),
			dispatch.Report{ProviderID: sid, Fate: dispatch.FateSent}, false},
		{"two deliveries", "", query + "&" + query, sign(callbackURL, query+"&"+query, form("sent", "")), form("sent", "").Encode(),
			dispatch.Report{ProviderID: sid, Fate: dispatch.FateSent}, false},
		{"an empty body", "", query, sign(callbackURL, query, nil), "", dispatch.Report{Delivery: id}, false},
		{"JSON", "", jsonQuery, sign(callbackURL, jsonQuery, nil), json,
			dispatch.Report{Delivery: id, ProviderID: sid, Fate: dispatch.FateUndelivered, Code: "30005"}, false},
		{"signed with the port", "", query, sign("https://hooks.example.com:443/twilio/status", query, form("sent", "")), form("sent", "").Encode(),
			dispatch.Report{Delivery: id, ProviderID: sid, Fate: dispatch.FateSent}, false},
		{"a port of its own", "https://hooks.example.com:8443/status", query, sign("https://hooks.example.com:8443/status", query, form("sent", "")), form("sent", "").Encode(),
			dispatch.Report{Delivery: id, ProviderID: sid, Fate: dispatch.FateSent}, false},
		{"a fragment, which is not signed", callbackURL + "#rc=3&rp=5xx", query, sign(callbackURL, query, form("sent", "")), form("sent", "").Encode(),
			dispatch.Report{Delivery: id, ProviderID: sid, Fate: dispatch.FateSent}, false},
		{"of a parameter that is there twice the first is signed, and counts", "", query, sign(callbackURL, query, form("sent", "")), form("sent", "").Encode() + "&MessageStatus=undelivered",
			dispatch.Report{Delivery: id, ProviderID: sid, Fate: dispatch.FateSent}, false},

		{"not signed", "", query, nil, form("delivered", "").Encode(), dispatch.Report{}, true},
		{"an empty signature", "", query, signed(""), form("delivered", "").Encode(), dispatch.Report{}, true},
		{"garbage", "", query, signed("\x00\xff"), form("delivered", "").Encode(), dispatch.Report{}, true},
		{"two signatures", "", query, http.Header{"X-Twilio-Signature": {"x", standin.TwilioSignature(token, callbackURL+"?"+query, form("delivered", ""))}},
			form("delivered", "").Encode(), dispatch.Report{}, true},
		{"another token", "", query, signed(standin.TwilioSignature(token+"x", callbackURL+"?"+query, form("delivered", ""))), form("delivered", "").Encode(), dispatch.Report{}, true},
		{"an empty token", "", query, signed(standin.TwilioSignature("", callbackURL+"?"+query, form("delivered", ""))), form("delivered", "").Encode(), dispatch.Report{}, true},
		{"another delivery", "", "delivery=" + uuid.NewString(), sign(callbackURL, query, form("delivered", "")), form("delivered", "").Encode(), dispatch.Report{}, true},
		{"another status", "", query, sign(callbackURL, query, form("delivered", "")), form("undelivered", "").Encode(), dispatch.Report{}, true},
		{"one parameter more", "", query, sign(callbackURL, query, form("delivered", "")), form("delivered", "1").Encode(), dispatch.Report{}, true},
		{"another host", "", query, sign("https://evil.example.com/twilio/status", query, form("delivered", "")), form("delivered", "").Encode(), dispatch.Report{}, true},
		{"another path", "", query, sign("https://hooks.example.com/twilio", query, form("delivered", "")), form("delivered", "").Encode(), dispatch.Report{}, true},
		{"http", "", query, sign("http://hooks.example.com/twilio/status", query, form("delivered", "")), form("delivered", "").Encode(), dispatch.Report{}, true},
		{"a body that is no form", "", query, sign(callbackURL, query, nil), "%zz", dispatch.Report{}, true},
		{"JSON of which the URL has no hash", "", query, sign(callbackURL, query, nil), json, dispatch.Report{}, true},
		{"other JSON than the hash is of", "", jsonQuery, sign(callbackURL, jsonQuery, nil), json + " ", dispatch.Report{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sender(t, "http://127.0.0.1:1", func(c *twilio.Config) {
				if c.Callback = callbackURL; tt.callback != "" {
					c.Callback = tt.callback
				}
			})
			got, err := s.ReadCallback(tt.query, tt.header, []byte(tt.body))
			if errors.Is(err, twilio.ErrSignature) != tt.refused || got != tt.want {
				t.Errorf("%+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
	if _, err := sender(t, "http://127.0.0.1:1", nil).ReadCallback(query, sign(callbackURL, query, form("sent", "")), []byte(form("sent", "").Encode())); !errors.Is(err, twilio.ErrSignature) {
		t.Errorf("without a URL of its own: %v", err)
	}
}

func TestCheckCallback(t *testing.T) {
	for _, tt := range []struct {
		name, url string
		good      bool
	}{
		{"as it should be", callbackURL, true},
		{"a port", "https://hooks.example.com:8443/status", true},
		{"a fragment", callbackURL + "#rc=3&rp=5xx", true},
		{"http to this machine", "http://127.0.0.1:3001/status", true},
		{"http to localhost", "http://localhost:3001/status", true},
		{"http", "http://hooks.example.com/twilio/status", false},
		{"no path", "https://hooks.example.com", false},
		{"the root", "https://hooks.example.com/", false},
		{"a slash at the end", callbackURL + "/", false},
		{"two slashes", "https://hooks.example.com//status", false},
		{"dots", "https://hooks.example.com/a/../status", false},
		{"a pattern", "https://hooks.example.com/{x}", false},
		{"escapes", "https://hooks.example.com/a%2Fb", false},
		{"a query", callbackURL + "?a=b", false},
		{"an empty query", callbackURL + "?", false},
		{"credentials", "https://user:secret@hooks.example.com/status", false},
		{"no host", "https:///status", false},
		{"no URL", "hooks.example.com/status", false},
		{"another scheme", "ftp://hooks.example.com/status", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := twilio.CheckCallback(tt.url)
			if (err == nil) != tt.good || err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: %v", tt.url, err)
			}
			_, err = twilio.New(twilio.Config{AccountSID: account, AuthToken: token, Callback: tt.url})
			if (err == nil) != tt.good || err != nil && !strings.HasPrefix(err.Error(), "OUTBOX_TWILIO_CALLBACK_URL: ") {
				t.Errorf("New: %v", err)
			}
		})
	}
}

// TestAsksForReports: each message names the delivery in its callback, the same on each
// attempt, and what the stand-in makes of it is read.
func TestAsksForReports(t *testing.T) {
	server := start(t)
	reports := make(chan dispatch.Report, 10)
	var s *twilio.Sender
	hooks := serveCallbacks(t, func(r *http.Request, body []byte) int {
		report, err := s.ReadCallback(r.URL.RawQuery, r.Header, body)
		if err != nil {
			return http.StatusForbidden
		}
		reports <- report
		return http.StatusNoContent
	})
	s = sender(t, server.URL(), func(c *twilio.Config) { c.Callback = hooks + "/status#rc=2" })
	server.ScriptCallbacks(func(n int, _ standin.Received) []standin.TwilioCallback {
		if n == 1 {
			return []standin.TwilioCallback{{Status: "sent", Early: true}, {Status: "undelivered", Code: 30003}}
		}
		return []standin.TwilioCallback{{Status: "delivered", Token: "another"}}
	})
	d := sms(dispatch.SMS{To: to, Body: "hello"})
	r, e := send(t, s, d)
	if e != nil {
		t.Fatal(e)
	}
	for _, want := range []dispatch.Report{
		{Delivery: d.ID, ProviderID: r.ProviderID, Fate: dispatch.FateSent},
		{Delivery: d.ID, ProviderID: r.ProviderID, Fate: dispatch.FateUndelivered, Code: "30003"},
	} {
		if got := <-reports; got != want {
			t.Errorf("%+v; want %+v", got, want)
		}
	}
	if _, e = send(t, s, d); e != nil {
		t.Fatal(e)
	}
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) {
		made := server.Reported()
		refused := 0
		for _, m := range made { // in the order of their answers, which two messages do not share
			if m.Status == "delivered" && m.Answer == http.StatusForbidden {
				refused++
			}
		}
		return len(made) == 3 && refused == 1, fmt.Sprint(made)
	})
}

// FuzzReadCallback: whatever is signed is read without a panic, and what goes on
// record has its shape.
func FuzzReadCallback(f *testing.F) {
	f.Add("delivery=0000002a-0000-8000-8000-0123456789ab", "MessageSid=SM0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f&MessageStatus=undelivered&ErrorCode=30003")
	f.Add("delivery={0000002a-0000-8000-8000-0123456789ab}", `{"MessageStatus": "sent", "ErrorCode": 1e9}`)
	f.Add("delivery=urn:uuid:0000002a-0000-8000-8000-0123456789ab&bodySHA256=", "%00=%ff&&=;")
	s, err := twilio.New(twilio.Config{AccountSID: account, AuthToken: token, Callback: callbackURL})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query, body string) {
		form, err := url.ParseQuery(body)
		if err != nil {
			form = nil
		}
		u, _ := url.Parse(callbackURL)
		u.RawQuery = query
		to := u.String()
		if u, err := url.Parse(to); err != nil || u.Query().Get("bodySHA256") != "" {
			form = nil
		}
		for _, signature := range []string{"", standin.TwilioSignature(token, to, form)} {
			r, err := s.ReadCallback(query, signed(signature), []byte(body))
			switch {
			case err != nil && r != (dispatch.Report{}):
				t.Errorf("refused, and read: %+v", r)
			case err == nil && signature == "":
				t.Error("not signed, and read")
			case r.ProviderID != "" && len(r.ProviderID) != 34, len(r.Code) > 6, strings.ContainsAny(r.ProviderID+r.Code+string(r.Fate), "\x00\r\n"):
				t.Errorf("on record: %+v", r)
			}
		}
	})
}

// serveCallbacks runs a server of callbacks that answers by f, and returns its address.
func serveCallbacks(t *testing.T, f func(r *http.Request, body []byte) int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(f(r, body))
	}))
	t.Cleanup(server.Close)
	return server.URL
}
