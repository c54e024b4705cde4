package twilio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/sendertest"
	"github.com/outbox-listener/outbox-listener/dispatch/twilio"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

const (
	account = "AC-test-0001" // the library's own client refuses the dashes
	token   = "t0ken-canary-77"
	from    = "+15550009999"
	to      = "+15550107788"
)

func start(t *testing.T) *standin.Twilio {
	t.Helper()
	server, err := standin.NewTwilio(account, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server
}

func sender(t *testing.T, url string, with func(*twilio.Config)) *twilio.Sender {
	t.Helper()
	c := twilio.Config{AccountSID: account, AuthToken: token, From: from, BaseURL: url}
	if with != nil {
		with(&c)
	}
	s, err := twilio.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sms(content dispatch.SMS) *dispatch.Delivery {
	return sendertest.NewDelivery(dispatch.ChannelSMS, content.To, content)
}

func send(t *testing.T, s *twilio.Sender, d *dispatch.Delivery) (dispatch.Receipt, *dispatch.Error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r, err := s.Send(ctx, d)
	if err == nil {
		return r, nil
	}
	e, ok := errors.AsType[*dispatch.Error](err)
	if !ok {
		t.Fatalf("Send returned a %T: %v", err, err)
	}
	return r, e
}

func TestSender(t *testing.T) {
	server := start(t)
	script := func(reply standin.TwilioReply) func() {
		return func() { server.Script(func(int, *http.Request) standin.TwilioReply { return reply }) }
	}
	wait := func(v string) http.Header { return http.Header{"Retry-After": {v}} }
	ownSender := sms(dispatch.SMS{To: to, From: "Myst", Body: "hello"})
	cases := []sendertest.Case{
		{Name: "created", Prepare: script(standin.TwilioReply{}), Status: 201},
		{Name: "200 with a SID", Prepare: script(standin.TwilioReply{Status: 200}), Status: 200},
		{Name: "a SID among fields of other types", Prepare: script(standin.TwilioReply{Body: `{"sid":"SM1","num_segments":1}`}), Status: 201},
		{Name: "broken JSON", Prepare: script(standin.TwilioReply{Body: `{"sid":"SM`}), Kind: dispatch.Unknown, Status: 201},
		{Name: "no JSON", Prepare: script(standin.TwilioReply{Body: "Ok"}), Kind: dispatch.Unknown, Status: 201},
		{Name: "no SID", Prepare: script(standin.TwilioReply{Status: 200, Body: `{"status":"queued"}`}), Kind: dispatch.Unknown, Status: 200},
		{Name: "empty SID", Prepare: script(standin.TwilioReply{Body: `{"sid":""}`}), Kind: dispatch.Unknown, Status: 201},
		{Name: "null", Prepare: script(standin.TwilioReply{Body: `null`}), Kind: dispatch.Unknown, Status: 201},
		{Name: "no content", Prepare: script(standin.TwilioReply{Status: 204}), Kind: dispatch.Unknown, Status: 204},

		{Name: "too many requests", Prepare: script(standin.TwilioReply{Status: 429, Code: 20429, Header: wait("30")}), Kind: dispatch.Throttled, Status: 429, Code: "20429", RetryAfter: 30 * time.Second},
		{Name: "429 in HTML", Prepare: script(standin.TwilioReply{Status: 429, Body: "<h1>slow down</h1>"}), Kind: dispatch.Throttled, Status: 429},
		{Name: "queue full", Prepare: script(standin.TwilioReply{Status: 400, Code: 21611}), Kind: dispatch.Throttled, Status: 400, Code: "21611"},
		{Name: "daily limit, an endless wish", Prepare: script(standin.TwilioReply{Status: 429, Code: 63038, Header: wait("999999999999")}), Kind: dispatch.Throttled, Status: 429, RetryAfter: dispatch.MaxRetryAfter},

		{Name: "malformed", Prepare: script(standin.TwilioReply{Status: 400, Body: "<html>"}), Kind: dispatch.Rejected, Status: 400},
		{Name: "a code of next year", Prepare: script(standin.TwilioReply{Status: 400, Code: 29999, Header: wait("30")}), Kind: dispatch.Rejected, Status: 400, Code: "29999"},
		{Name: "too large", Prepare: script(standin.TwilioReply{Status: 413}), Kind: dispatch.Rejected, Status: 413},
		{Name: "not in time", Prepare: script(standin.TwilioReply{Status: 408}), Kind: dispatch.Down, Status: 408},
		{Name: "wrong credentials", Prepare: script(standin.TwilioReply{Status: 401, Code: 20003, Header: wait("60")}), Kind: dispatch.Down, Status: 401, Code: "20003", RetryAfter: time.Minute},
		{Name: "wrong credentials as a 400", Prepare: script(standin.TwilioReply{Status: 400, Code: 20003}), Kind: dispatch.Down, Status: 400},
		{Name: "forbidden", Prepare: script(standin.TwilioReply{Status: 403}), Kind: dispatch.Down, Status: 403},
		{Name: "region not allowed, as a 403", Prepare: script(standin.TwilioReply{Status: 403, Code: 21408}), Kind: dispatch.Rejected, Status: 403},
		{Name: "no such account", Prepare: script(standin.TwilioReply{Status: 404, Code: 20404}), Kind: dispatch.Down, Status: 404},
		{Name: "the configured sender is not ours", Prepare: script(standin.TwilioReply{Status: 400, Code: 21660}), Kind: dispatch.Down, Status: 400},
		{Name: "the message's sender is not ours", Prepare: script(standin.TwilioReply{Status: 400, Code: 21660}), Delivery: ownSender, Kind: dispatch.Rejected, Status: 400},

		{Name: "the body says 429, the status 500", Prepare: script(standin.TwilioReply{Status: 500, Code: 20429}), Kind: dispatch.Unknown, Status: 500},
		{Name: "failed after it was taken", Prepare: script(standin.TwilioReply{Status: 500, Taken: true, Code: 20500}), Kind: dispatch.Unknown, Status: 500},
		{Name: "hung up before it was taken", Prepare: script(standin.TwilioReply{CutBefore: true}), Kind: dispatch.Unknown},
		{Name: "hung up after it was taken", Prepare: script(standin.TwilioReply{CutAfter: true}), Kind: dispatch.Unknown},
		{Name: "an error that repeats everything", Prepare: script(standin.TwilioReply{Status: 400, Body: `{"code":21211,"message":"The number ` + to + ` of ` + account + ":" + token + ` is wrong"}`}), Kind: dispatch.Rejected, Status: 400, Code: "21211"},
	}
	for _, status := range []int{300, 301, 302, 303, 304, 307, 308} {
		cases = append(cases, sendertest.Case{
			Name: fmt.Sprint("redirect ", status), Kind: dispatch.Down, Status: status,
			Prepare: script(standin.TwilioReply{Status: status, Header: http.Header{"Location": {server.URL() + "/elsewhere"}}}),
		})
	}
	for _, status := range []int{500, 501, 502, 503, 504, 520, 599} {
		cases = append(cases, sendertest.Case{
			Name: fmt.Sprint("server error ", status), Kind: dispatch.Unknown, Status: status, RetryAfter: 30 * time.Second,
			Prepare: script(standin.TwilioReply{Status: status, Body: "<html>", Header: wait("30")}),
		})
	}
	for _, code := range []int{21211, 21265, 21266, 21408, 21608, 21610, 21612, 21614, 21617, 21635} {
		cases = append(cases, sendertest.Case{
			Name: fmt.Sprint("refused ", code), Kind: dispatch.Rejected, Status: 400, Code: fmt.Sprint(code),
			Prepare: script(standin.TwilioReply{Status: 400, Code: code}),
		})
	}
	sendertest.Run(t, sendertest.Suite{
		Channel:  dispatch.ChannelSMS,
		New:      func(t *testing.T) dispatch.Sender { return sender(t, server.URL(), nil) },
		Delivery: func() *dispatch.Delivery { return sms(dispatch.SMS{To: to, Body: "Your estimate is ready"}) },
		Accept:   func() { server.Script(nil) },
		Taken:    func() int { return len(server.Received()) },
		Hang:     script(standin.TwilioReply{Hang: true}),
		Flood:    script(standin.TwilioReply{Body: strings.Repeat(" ", 8<<20)}),
		Cases:    cases,
		Secrets:  []string{account, token, account + ":" + token, "Your estimate"},
	})
}

func TestRequest(t *testing.T) {
	t.Setenv("TWILIO_EDGE", "dublin") // the library would send it to 127.dublin.ie1.0.1
	t.Setenv("TWILIO_REGION", "ie1")
	server := start(t)
	var header http.Header
	var form map[string][]string
	server.Script(func(_ int, r *http.Request) standin.TwilioReply {
		header, form = r.Header.Clone(), r.PostForm
		return standin.TwilioReply{}
	})
	for _, tt := range []struct {
		name    string
		content dispatch.SMS
		from    string
		size    string
	}{
		{"configured sender", dispatch.SMS{To: to, Body: "Häßlich & + = 100 % 😀\nline"}, from, `{"encoding":"UCS-2","segments":1}`},
		{"own sender", dispatch.SMS{To: to, From: "Myst", Body: strings.Repeat("x", 161)}, "Myst", `{"encoding":"GSM-7","segments":2}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, e := send(t, sender(t, server.URL()+"/", nil), sms(tt.content))
			if e != nil {
				t.Fatal(e)
			}
			got := server.Received()[len(server.Received())-1]
			if r.ProviderID != got.ID || !strings.HasPrefix(r.ProviderID, "SM") || r.Status != 201 {
				t.Errorf("receipt = %+v, want the SID %s", r, got.ID)
			}
			if string(r.Answer) != tt.size {
				t.Errorf("answer %s, want %s", r.Answer, tt.size)
			}
			if got.Recipient != to || got.Body != tt.content.Body {
				t.Errorf("arrived as %+v", got)
			}
			want := map[string]string{"To": to, "From": tt.from, "Body": tt.content.Body}
			if len(form) != len(want) {
				t.Errorf("form %v, want %v", form, want)
			}
			for key, value := range want {
				if len(form[key]) != 1 || form[key][0] != value {
					t.Errorf("form %s = %q, want %q", key, form[key], value)
				}
			}
			for key := range header {
				if strings.Contains(strings.ToLower(key), "idempotency") {
					t.Errorf("header %s makes net/http send the request twice", key)
				}
			}
			if got := header.Get("Content-Type"); got != "application/x-www-form-urlencoded" {
				t.Errorf("Content-Type = %q", got)
			}
		})
	}
}

func TestBaseURLWithPath(t *testing.T) {
	var path atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path.Store(r.URL.Path)
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"sid":"SM1"}`)
	}))
	defer proxy.Close()
	for _, base := range []string{proxy.URL + "/twilio", proxy.URL + "/twilio/"} {
		if _, e := send(t, sender(t, base, nil), sms(dispatch.SMS{To: to, Body: "x"})); e != nil {
			t.Fatal(e)
		}
		if want := "/twilio/2010-04-01/Accounts/" + account + "/Messages.json"; path.Load() != want {
			t.Errorf("base URL %s: posted to %s, want %s", base, path.Load(), want)
		}
	}
}

func TestWrongToken(t *testing.T) {
	server := start(t)
	s := sender(t, server.URL(), func(c *twilio.Config) { c.AuthToken = "other" })
	_, e := send(t, s, sms(dispatch.SMS{To: to, Body: "x"}))
	if e == nil || e.Kind != dispatch.Down || e.Code != "20003" {
		t.Errorf("Send = %v, want down with 20003", e)
	}
	if _, refused := server.Requests(); refused != 1 || len(server.Received()) != 0 {
		t.Errorf("refused %d, received %d", refused, len(server.Received()))
	}
}

// A kept connection that dies while the request is under way must not make
// anybody send it again: the message may have been taken.
func TestKeptConnectionDies(t *testing.T) {
	for _, tt := range []struct {
		name  string
		reply standin.TwilioReply
		taken int
	}{
		{"before it was taken", standin.TwilioReply{CutBefore: true}, 1},
		{"after it was taken", standin.TwilioReply{CutAfter: true}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := start(t)
			server.Script(func(n int, _ *http.Request) standin.TwilioReply {
				if n == 2 {
					return tt.reply
				}
				return standin.TwilioReply{}
			})
			s := sender(t, server.URL(), nil)
			if _, e := send(t, s, sms(dispatch.SMS{To: to, Body: "first"})); e != nil {
				t.Fatal(e)
			}
			_, e := send(t, s, sms(dispatch.SMS{To: to, Body: "second"}))
			if e == nil || e.Kind != dispatch.Unknown {
				t.Errorf("Send = %v, want unknown", e)
			}
			requests, _ := server.Requests()
			if requests != 2 || len(server.Received()) != tt.taken {
				t.Errorf("%d requests, %d taken; want 2 and %d", requests, len(server.Received()), tt.taken)
			}
			if n := server.Connections(); n != 1 {
				t.Errorf("%d connections: the second request did not go over the kept one", n)
			}
		})
	}
}

// However much of the answer comes through, nothing but a whole one counts.
func TestAnswerBreaksOff(t *testing.T) {
	server := start(t)
	const body = `{"sid":"SM1","status":"queued"}`
	var at atomic.Int32
	server.Script(func(int, *http.Request) standin.TwilioReply {
		return standin.TwilioReply{Body: body, CutAfter: true, CutAt: int(at.Load())}
	})
	s := sender(t, server.URL(), nil)
	whole := len("HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 31\r\n\r\n") + len(body)
	for n := 1; n <= whole; n++ {
		at.Store(int32(n))
		r, e := send(t, s, sms(dispatch.SMS{To: to, Body: "x"}))
		switch {
		case n == whole && (e != nil || r.ProviderID != "SM1"):
			t.Errorf("the whole answer: %+v, %v", r, e)
		case n < whole && (e == nil || e.Kind != dispatch.Unknown):
			t.Errorf("%d of %d bytes: %v, want unknown", n, whole, e)
		}
	}
	if requests, _ := server.Requests(); requests != whole {
		t.Errorf("%d requests for %d messages", requests, whole)
	}
}

// Bodies of failures must be closed, or each would keep its connection.
func TestFailuresLeakNoConnections(t *testing.T) {
	server := start(t)
	server.Script(func(n int, _ *http.Request) standin.TwilioReply {
		return standin.TwilioReply{Status: []int{302, 400, 429, 502}[n%4], Body: "<html>" + strings.Repeat("x", 1000)}
	})
	s := sender(t, server.URL(), nil)
	for range 20 {
		if _, e := send(t, s, sms(dispatch.SMS{To: to, Body: "x"})); e == nil {
			t.Fatal("taken")
		}
	}
	if n := server.Connections(); n != 1 {
		t.Errorf("%d connections for 20 requests in a row", n)
	}
}

func TestNothingListens(t *testing.T) {
	server := start(t)
	server.Close()
	_, e := send(t, sender(t, server.URL(), nil), sms(dispatch.SMS{To: to, Body: "x"}))
	if e == nil || e.Kind != dispatch.Down {
		t.Errorf("Send = %v, want down", e)
	}
}

func TestNoSender(t *testing.T) {
	server := start(t)
	s := sender(t, server.URL(), func(c *twilio.Config) { c.From = "" })
	_, e := send(t, s, sms(dispatch.SMS{To: to, Body: "x"}))
	if e == nil || e.Kind != dispatch.Rejected {
		t.Errorf("Send = %v, want rejected", e)
	}
	if n, _ := server.Requests(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		name  string
		with  func(*twilio.Config)
		wrong string // what the error names; "" for none
	}{
		{"enough", func(c *twilio.Config) { c.From, c.BaseURL = "", "" }, ""},
		{"a path", func(c *twilio.Config) { c.BaseURL = "https://proxy.example/twilio/" }, ""},
		{"no account", func(c *twilio.Config) { c.AccountSID = "" }, "TWILIO_ACCOUNT_SID"},
		{"a path for an account", func(c *twilio.Config) { c.AccountSID = "../AC1" }, "TWILIO_ACCOUNT_SID"},
		{"no token", func(c *twilio.Config) { c.AuthToken = "" }, "TWILIO_AUTH_TOKEN"},
		{"no URL", func(c *twilio.Config) { c.BaseURL = "localhost:4010" }, "TWILIO_API_BASE_URL"},
		{"credentials in the URL", func(c *twilio.Config) { c.BaseURL = "https://u:" + token + "@x.example" }, "TWILIO_API_BASE_URL"},
		{"query in the URL", func(c *twilio.Config) { c.BaseURL = "https://x.example?a=1" }, "TWILIO_API_BASE_URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := twilio.Config{AccountSID: account, AuthToken: token, From: from}
			tt.with(&c)
			_, err := twilio.New(c)
			if tt.wrong == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wrong) || strings.Contains(err.Error(), token) {
				t.Errorf("New = %v, want an error that names %s", err, tt.wrong)
			}
		})
	}
}
