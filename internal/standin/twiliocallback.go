package standin

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TwilioCallback is one report that a scripted Twilio makes about a message, to the
// StatusCallback that came with it.
type TwilioCallback struct {
	Status string        // MessageStatus: sent, delivered, undelivered, …
	Code   int           // ErrorCode; 0 means none
	After  time.Duration // since the callback before it, or since the message was taken
	Early  bool          // made before the request for the message is answered
	Token  string        // signs it; "" means the account's
}

// TwilioReported is a callback that was made.
type TwilioReported struct {
	SID, Status string
	Answer      int // the status code; 0 where none came
}

// delivering is what becomes of a message where nothing else was said.
var delivering = []TwilioCallback{{Status: "sent"}, {Status: "delivered", After: 50 * time.Millisecond}}

// ScriptCallbacks replaces what it reports about the messages that it takes and that
// have a StatusCallback, from the next one on; n counts all messages taken, from 1.
// nil has each of them sent and delivered again.
func (t *Twilio) ScriptCallbacks(f func(n int, m Received) []TwilioCallback) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fates = f
}

// Reported returns the callbacks that were made, in the order of their answers.
func (t *Twilio) Reported() []TwilioReported {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.reported)
}

// report makes the callbacks for a message that was taken, one after the other. It
// returns once those are made that are early.
func (t *Twilio) report(n int, m Received, form url.Values) {
	to := form.Get("StatusCallback")
	t.mu.Lock()
	script := t.fates
	t.mu.Unlock()
	if to == "" {
		return
	}
	calls := delivering
	if script != nil {
		calls = script(n, m)
	}
	for len(calls) > 0 && calls[0].Early {
		t.call(to, m, form.Get("From"), calls[0])
		calls = calls[1:]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil { // Close waits for those that there are
		return
	}
	t.calls.Go(func() {
		for _, c := range calls {
			t.call(to, m, form.Get("From"), c)
		}
	})
}

// call makes one callback. A fragment is for Twilio and not for the server.
func (t *Twilio) call(to string, m Received, from string, c TwilioCallback) {
	select {
	case <-time.After(c.After):
	case <-t.ctx.Done():
		return
	}
	to, _, _ = strings.Cut(to, "#")
	form := url.Values{
		"AccountSid": {t.sid}, "ApiVersion": {"2010-04-01"}, "From": {from}, "To": {m.Recipient},
		"MessageSid": {m.ID}, "SmsSid": {m.ID}, "MessageStatus": {c.Status}, "SmsStatus": {c.Status},
	}
	if c.Code != 0 {
		form.Set("ErrorCode", strconv.Itoa(c.Code))
	}
	token := c.Token
	if token == "" {
		token = t.token
	}
	done := TwilioReported{SID: m.ID, Status: c.Status}
	ctx, cancel := context.WithTimeout(t.ctx, 15*time.Second) // as long as the real one waits
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
		req.Header.Set("User-Agent", "TwilioProxy/1.1")
		req.Header.Set("X-Twilio-Signature", TwilioSignature(token, to, form))
		var res *http.Response
		if res, err = t.client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
			_ = res.Body.Close()
			done.Answer = res.StatusCode
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reported = append(t.reported, done)
}

// TwilioSignature is how Twilio signs a POST of form to a URL: HMAC-SHA1 under the
// account's token, in base64, of the URL and each parameter's name and value, in the
// order of the names (https://www.twilio.com/docs/usage/security).
func TwilioSignature(token, to string, form url.Values) string {
	mac := hmac.New(sha1.New, []byte(token))
	_, _ = io.WriteString(mac, to)
	var names []string
	for name := range form {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		_, _ = io.WriteString(mac, name+form.Get(name))
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
