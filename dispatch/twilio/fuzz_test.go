package twilio_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/sendertest"
	"github.com/outbox-listener/outbox-listener/dispatch/twilio"
)

// asked is a sender whose Twilio says s.
func asked(t *testing.T, s sendertest.Says) *twilio.Sender {
	return sender(t, "https://api.example.com", func(c *twilio.Config) { c.HTTPClient = &http.Client{Transport: s} })
}

// told fails the test where e is none that may be shown: its kind is one of those
// that there are, and neither the token nor what Twilio wrote is in it.
func told(t *testing.T, err error, body string) *dispatch.Error {
	t.Helper()
	e, ok := errors.AsType[*dispatch.Error](err)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	if !slices.Contains([]dispatch.Kind{dispatch.Rejected, dispatch.Throttled, dispatch.Down, dispatch.Unknown}, e.Kind) {
		t.Errorf("kind %q", e.Kind)
	}
	if text := e.Error(); strings.Contains(text, token) || strings.Contains(text, "canary") && strings.Contains(body, "canary") || strings.ContainsAny(text, "\r\n") {
		t.Errorf("shows %q", text)
	}
	if e.RetryAfter < 0 {
		t.Errorf("Retry-After %v", e.RetryAfter)
	}
	return e
}

// FuzzAnswer: a message is taken only by a 2xx with a SID, which is one of the answer's
// own; it is refused only by a 4xx; and whatever else leaves open what became of it is
// no clear answer.
func FuzzAnswer(f *testing.F) {
	f.Add(201, `{"sid": "SM0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f", "status": "queued"}`, "")
	f.Add(201, `{"sid": "SM0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f", "num_segments": 1}`, "")
	f.Add(200, `{"sid": ""}`, "")
	f.Add(201, `{"sid": "SM0f`, "")
	f.Add(400, `{"code": 21211, "message": "canary +15550107788 is not valid"}`, "")
	f.Add(429, `{"code": 20429}`, "30")
	f.Add(503, `{"code": 21211, "sid": "SM0f"}`, "Wed, 21 Oct 2099 07:28:00 GMT")
	f.Fuzz(func(t *testing.T, status int, body, retryAfter string) {
		if status < 200 || status > 999 {
			return // the transport refuses it, or reads on
		}
		s := asked(t, sendertest.Says{Status: status, Header: http.Header{"Retry-After": {retryAfter}}, Body: body})
		r, err := s.Send(t.Context(), sms(dispatch.SMS{To: to, Body: "hello"}))
		if err == nil {
			if status > 299 || r.ProviderID == "" || r.Status != status || !json.Valid(r.Answer) {
				t.Errorf("%d: taken as %+v", status, r)
			}
			var said struct {
				SID string `json:"sid"`
			}
			// What stands behind the object, or beside the SID, does not take it back.
			_ = json.NewDecoder(strings.NewReader(body)).Decode(&said)
			if said.SID != r.ProviderID {
				t.Errorf("taken as %q, and said was %q", r.ProviderID, said.SID)
			}
			return
		}
		e := told(t, err, body)
		if r.ProviderID != "" || r.Status != 0 || r.Answer != nil {
			t.Errorf("%v, and taken as %+v", e, r)
		}
		switch refused := status >= 400 && status <= 499; {
		case e.Status != status,
			(e.Kind == dispatch.Rejected || e.Kind == dispatch.Throttled) && !refused,
			e.Kind == dispatch.Unknown && refused,
			e.Kind == dispatch.Down && (status < 300 || status > 499),
			e.Kind == dispatch.Rejected && e.RetryAfter != 0:
			t.Errorf("%d is %s, %d, %v", status, e.Kind, e.Status, e.RetryAfter)
		}
	})
}

// FuzzList: nothing that cannot be read as a list says that a message is not there; one
// that is listed, and ours by any reading, is found or doubted; and no SID is found
// twice.
func FuzzList(f *testing.F) {
	const ours = `{"sid": "SM01", "to": "` + to + `", "from": "` + from + `", "body": "hello canary", "date_created": "Sat, 28 Nov 2026 17:00:00 +0000", "direction": "outbound-api"}`
	const date = "Sat, 28 Nov 2026 17:00:30 GMT"
	f.Add(200, `{"messages": [], "next_page_uri": null}`, date)
	f.Add(200, `{"messages": [`+ours+`], "next_page_uri": ""}`, date)
	f.Add(200, `{"messages": [`+ours+`, `+ours+`], "next_page_uri": "/2010-04-01/Messages.json?Page=1&PageToken=a"}`, date)
	f.Add(200, `{"messages": [`+strings.Replace(ours, "hello", "Sent from a trial account - hello", 1)+`]}`, "")
	f.Add(200, `{"messages": [`+strings.Replace(ours, "hello canary", "", 1)+`], "next_page_uri": "\u0000"}`, "yesterday")
	f.Add(200, `{}`, date)
	f.Add(200, `{"messages": [`, date)
	f.Add(401, `{"code": 20003, "message": "canary"}`, "")
	f.Fuzz(func(t *testing.T, status int, body, date string) {
		if status < 200 || status > 999 {
			return
		}
		s := asked(t, sendertest.Says{Status: status, Header: http.Header{"Date": {date}}, Body: body})
		got, err := s.Find(t.Context(), sms(dispatch.SMS{To: to, Body: "hello canary"}), time.Now().Add(-time.Minute))
		if err != nil {
			told(t, err, body)
			if len(got.Alike) > 0 || got.Doubt != "" {
				t.Errorf("%v, and found %+v", err, got)
			}
			return
		}
		if strings.Contains(got.Doubt, "canary") || strings.Contains(got.Doubt, to) {
			t.Errorf("doubts %q", got.Doubt)
		}
		var said struct {
			Messages *[]struct {
				SID     string `json:"sid"`
				To      string `json:"to"`
				From    string `json:"from"`
				Body    string `json:"body"`
				Created string `json:"date_created"`
			} `json:"messages"`
		}
		if err := json.NewDecoder(strings.NewReader(body)).Decode(&said); err != nil || said.Messages == nil || status > 299 {
			t.Fatalf("%d %q is read as a list: %v", status, body, err)
		}
		listed := map[string]bool{}
		for _, m := range *said.Messages {
			listed[m.SID] = true
		}
		found := map[string]bool{}
		for _, a := range got.Alike {
			if a.ProviderID == "" || found[a.ProviderID] || !listed[a.ProviderID] {
				t.Errorf("found %q, of %q", a.ProviderID, body)
			}
			found[a.ProviderID] = true
		}
		now, err := http.ParseTime(date)
		if err != nil {
			now = time.Now()
		}
		for _, m := range *said.Messages {
			at, err := time.Parse(time.RFC1123Z, m.Created)
			if m.SID != "" && m.To == to && m.From == from && m.Body == "hello canary" && err == nil && !at.Before(now.Add(-time.Minute)) &&
				!found[m.SID] && got.Doubt == "" && !strings.Contains(strings.ToLower(body), "inbound") {
				t.Errorf("%q is not found in %q", m.SID, body)
			}
		}
	})
}
