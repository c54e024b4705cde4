package dispatch

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func to(t *testing.T, ch Channel, content any) *Delivery {
	t.Helper()
	raw, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	// The ledger has recipients masked.
	return &Delivery{Attempt: 3, Message: Message{Channel: ch, Recipient: "***", Content: raw}}
}

func allow(t *testing.T, words ...string) Recipients {
	t.Helper()
	r, err := ParseRecipients(words)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRedirectChangesTheRecipient(t *testing.T) {
	r := Redirect{SMS: "+15550100199", Email: "Test <test@example.org>", Allow: allow(t, "@example.com", "+1555*")}

	d := to(t, ChannelSMS, SMS{To: "+15550100123", From: "Shop", Body: "hi"})
	before := string(d.Content)
	got, held := r.Apply(d)
	if held != "" || got == d || string(d.Content) != before || d.Recipient != "***" {
		t.Fatalf("held %q; the delivery itself is now %+v", held, d)
	}
	sms, err := ReadContent[SMS](&got.Message)
	if err != nil || sms != (SMS{To: "+15550100199", From: "Shop", Body: "hi"}) || got.Recipient != sms.To || got.ID != d.ID || got.Attempt != 3 {
		t.Errorf("%+v, %+v, %v", got, sms, err)
	}

	mail := Email{To: []string{"Ann <ann@example.com>"}, Cc: []string{"bo@example.net"}, Bcc: []string{"cy@example.net"}, Subject: "s", Text: "t",
		ReplyTo: "desk@example.com", Headers: map[string]string{"x-original-to": "forged", "X-A": "b"}, Invite: &Invite{Method: "REQUEST", Calendar: "BEGIN"},
		Attachments: []Attachment{{Name: "a", Content: []byte{0, 1}}}}
	d = to(t, ChannelEmail, mail)
	before = string(d.Content)
	got, held = r.Apply(d)
	if held != "" || string(d.Content) != before {
		t.Fatalf("held %q; the delivery itself is now %+v", held, d)
	}
	want := mail
	want.To, want.Cc, want.Bcc = []string{"Test <test@example.org>"}, nil, nil
	want.Headers = map[string]string{"X-A": "b", OriginalTo: "a***@example.com, b***@example.net, c***@example.net"}
	if e, err := ReadContent[Email](&got.Message); err != nil || !reflect.DeepEqual(e, want) || got.Recipient != "test@example.org" {
		t.Errorf("%+v, %v\nwant %+v", e, err, want)
	}
	var frozen Email
	if err := json.Unmarshal(got.Content, &frozen); err != nil || !reflect.DeepEqual(frozen, want) {
		t.Errorf("the content is %s, %v", got.Content, err)
	}
	if strings.Contains(string(got.Content), "ann@") || strings.Contains(string(got.Content), "bo@") || strings.Contains(string(got.Content), "cy@") {
		t.Errorf("somebody's address is left in %s", got.Content)
	}

	// As planned by this process, where the content was never decoded.
	d = &Delivery{Message: directEvents["sms.send"](t.Context(), Event{Payload: json.RawMessage(`{"to": "+15550100123", "body": "hi"}`)})[0]}
	got, held = r.Apply(d)
	if sms, err := ReadContent[SMS](&got.Message); held != "" || err != nil || sms.To != "+15550100199" {
		t.Errorf("%q, %+v, %v", held, sms, err)
	}
	if sms, err := ReadContent[SMS](&d.Message); err != nil || sms.To != "+15550100123" {
		t.Errorf("the delivery itself is now to %+v, %v", sms, err)
	}
}

func TestRedirectNamesManyRecipients(t *testing.T) {
	e := Email{Subject: "s", Text: "t"}
	for i := range MaxEmailRecipients {
		e.To = append(e.To, fmt.Sprintf("a%d@%s.example.com", i, strings.Repeat("x", 50)))
	}
	got, held := Redirect{Email: "test@example.org"}.Apply(to(t, ChannelEmail, e))
	if held != "" {
		t.Fatal(held)
	}
	m, err := ReadContent[Email](&got.Message)
	if err != nil || m.Validate() != nil || !strings.HasSuffix(m.Headers[OriginalTo], " more") {
		t.Errorf("%v, %v, %q", err, m.Validate(), m.Headers[OriginalTo])
	}
}

// TestRedirectAllowsAll: all numbers and addresses, and no hosts.
func TestRedirectAllowsAll(t *testing.T) {
	r := Redirect{Allow: allow(t, "+*", "@*")}
	for _, d := range []*Delivery{to(t, ChannelSMS, SMS{To: "+442071838750", Body: "x"}), to(t, ChannelEmail, Email{To: []string{"Ann <ann@mail.example.org>"}, Subject: "s", Text: "t"})} {
		if send, held := r.Apply(d); send != d {
			t.Errorf("%s: %s", d.Channel, held)
		}
	}
	if send, _ := r.Apply(to(t, ChannelWebhook, Webhook{URL: "https://example.com/", Body: "{}"})); send != nil {
		t.Error("a webhook goes")
	}
}

func TestRedirectAllows(t *testing.T) {
	some := []string{"+15550100123", "+4420*", "ann@example.com", "@Example.org", "hooks.example.com", "localhost:8080", "127.0.0.1", "[::1]:9000", "plain.example:80", "tls.example:443"}
	sms := func(n string) any { return SMS{To: n, Body: "x"} }
	mail := func(to ...string) any { return Email{To: to, Subject: "s", Text: "t"} }
	hook := func(u string) any { return Webhook{URL: u, Body: "{}"} }
	for _, tt := range []struct {
		ch      Channel
		content any
		held    string // a part of the reason; "" means that it goes
	}{
		{ChannelSMS, sms("+15550100123"), ""},
		{ChannelSMS, sms("+442071838750"), ""},
		{ChannelSMS, sms("+15550100124"), "+1*******24 is none of the recipients"},
		{ChannelSMS, sms("+155501001234"), "is none of the recipients"},
		{ChannelSMS, sms(""), "is none of the recipients"},
		{ChannelEmail, mail("ann@example.com"), ""},
		{ChannelEmail, mail("Ann <ANN@EXAMPLE.com>"), ""},
		{ChannelEmail, mail("bo@example.org", "cy@EXAMPLE.ORG"), ""},
		{ChannelEmail, mail("bo@example.com"), "b***@example.com is none of the recipients"},
		{ChannelEmail, mail("joann@example.com"), "j***@example.com"},
		{ChannelEmail, mail("bo@mail.example.org"), "b***@mail.example.org"},
		{ChannelEmail, mail("bo@evilexample.org"), "b***@evilexample.org"},
		{ChannelEmail, mail(`"x@example.org"@example.net`), "example.net"},
		{ChannelEmail, mail(`"ann@example.com" <evil@example.net>`), "e***@example.net"},
		{ChannelEmail, Email{To: []string{"ann@example.com"}, Cc: []string{"bo@example.net"}, Subject: "s", Text: "t"}, "b***@example.net"},
		{ChannelEmail, Email{To: []string{"ann@example.com"}, Bcc: []string{"bo@example.net"}, Subject: "s", Text: "t"}, "b***@example.net"},
		{ChannelEmail, mail(), "names no recipient"},
		{ChannelWebhook, hook("https://hooks.example.com/a?b=c"), ""},
		{ChannelWebhook, hook("HTTPS://HOOKS.example.com:8443/"), ""},
		{ChannelWebhook, hook("https://example.com/secret"), "https://example.com is none of the recipients"},
		{ChannelWebhook, hook("https://hooks.example.com.evil.example/"), "is none"},
		{ChannelWebhook, hook("https://evil.example/hooks.example.com"), "is none"},
		{ChannelWebhook, hook("https://hooks.example.com@evil.example/"), "is none"},
		{ChannelWebhook, hook("http://localhost:8080/"), ""},
		{ChannelWebhook, hook("http://localhost:8081/"), "is none"},
		{ChannelWebhook, hook("http://localhost/"), "is none"},
		{ChannelWebhook, hook("http://[::1]:9000/"), ""},
		{ChannelWebhook, hook("http://plain.example/"), ""},
		{ChannelWebhook, hook("https://plain.example/"), "is none"},
		{ChannelWebhook, hook("https://tls.example/"), ""},
		{ChannelWebhook, hook(""), "is none"},
		{ChannelWebhook, hook("://"), "is none"},
		{ChannelHTTP, HTTP{Method: "GET", URL: "http://127.0.0.1:1234/x"}, ""},
		{ChannelHTTP, HTTP{Method: "GET", URL: "https://example.com/x"}, "https://example.com is none"},
		{ChannelLog, "anything", ""},
		{ChannelDiscard, "anything", ""},
		{ChannelHandler, "anything", ""},
		{ChannelSQL, SQL{Statement: "select 1"}, ""},
		{ChannelOpenAI, Prompt{Input: "x"}, ""},
		{"pager", "anything", "not known"},
		{ChannelSMS, 7, "cannot be read"},
		{ChannelEmail, 7, "cannot be read"},
		{ChannelWebhook, 7, "cannot be read"},
		{ChannelHTTP, 7, "cannot be read"},
	} {
		d := to(t, tt.ch, tt.content)
		got, held := Redirect{Allow: allow(t, some...)}.Apply(d)
		switch {
		case tt.held == "" && (held != "" || got != d):
			t.Errorf("%s %+v: held: %s", tt.ch, tt.content, held)
		case tt.held != "" && (got != nil || !strings.Contains(held, tt.held)):
			t.Errorf("%s %+v: held %q, want %q", tt.ch, tt.content, held, tt.held)
		}
		if got, held := (Redirect{}).Apply(d); got != d || held != "" {
			t.Errorf("%s %+v: the zero value holds it: %s", tt.ch, tt.content, held)
		}
	}
}

// Who redirects one channel wants nothing to get out by another.
func TestRedirectHoldsTheRest(t *testing.T) {
	r := Redirect{SMS: "+15550100199"}
	for ch, content := range map[Channel]any{
		ChannelEmail:   Email{To: []string{"ann@example.com"}, Subject: "s", Text: "t"},
		ChannelWebhook: Webhook{URL: "https://example.com", Body: "{}"},
		ChannelHTTP:    HTTP{Method: "GET", URL: "https://example.com"},
	} {
		if got, held := r.Apply(to(t, ch, content)); got != nil || held == "" {
			t.Errorf("%s goes", ch)
		}
	}
	if got, held := (Redirect{Email: "test@example.org"}).Apply(to(t, ChannelSMS, SMS{To: "+15550100123", Body: "x"})); got != nil || held == "" {
		t.Error("an SMS goes")
	}
}

func TestParseRecipients(t *testing.T) {
	for _, good := range []string{"+15550100123", "+1*", "+1555*", "+*", "@*", "ann@example.com", "Ann+tag@Example.com", "@example.com", "example.com", "example.com:8080",
		"localhost", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:80", "xn--bcher-kva.example"} {
		if _, err := ParseRecipients([]string{good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "+", "*", "+0*", "+155501*0", "+12345678901234567*", "+1 555", "15550100123", "15550100123x@", "@", "@@example.com", "a@b@c", "ann@*", "*@example.com",
		"*.example.com", "https://example.com", "example.com/path", "example.com:", "example.com:0", "example.com:x", "Ann <ann@example.com>", "::1", "bücher.example", "a b"} {
		if r, err := ParseRecipients([]string{"example.com", bad}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q is none of", bad)) {
			t.Errorf("%q: %v, %v", bad, r, err)
		}
	}
	if _, err := ParseRecipients(nil); err == nil {
		t.Error("a list of nobody was accepted")
	}
	r := allow(t, "+15550100123", "+1555*", "Ann@Example.com", "@example.com", "example.com")
	if got := r.String(); got != "+1*******23, +1555*, a***@example.com, @example.com, example.com" {
		t.Errorf("shown as %s", got)
	}
}
