package dispatch

import (
	"fmt"
	"strings"
	"testing"
)

func TestSMSValidate(t *testing.T) {
	for _, tt := range []struct {
		name string
		sms  SMS
		want string // a part of the sentence; "" means valid
	}{
		{"plain", SMS{To: "+15550100123", Body: "Hi"}, ""},
		{"the shortest number", SMS{To: "+1234567", Body: "Hi"}, ""},
		{"the longest number", SMS{To: "+123456789012345", Body: "Hi"}, ""},
		{"one digit more", SMS{To: "+1234567890123456", Body: "Hi"}, "E.164"},
		{"one digit less", SMS{To: "+123456", Body: "Hi"}, "E.164"},
		{"a country code of 0", SMS{To: "+05550100123", Body: "Hi"}, "E.164"},
		{"spaces", SMS{To: "+1 555 010 0123", Body: "Hi"}, "E.164"},
		{"a line break behind it", SMS{To: "+15550100123\n", Body: "Hi"}, "E.164"},
		{"digits of another script", SMS{To: "+１５５５０１００１２３", Body: "Hi"}, "E.164"},
		{"from a number", SMS{To: "+15550100123", From: "+15550100124", Body: "Hi"}, ""},
		{"from a short code", SMS{To: "+15550100123", From: "12345", Body: "Hi"}, ""},
		{"from a name", SMS{To: "+15550100123", From: "Myst Spa", Body: "Hi"}, ""},
		{"from a name with a line break", SMS{To: "+15550100123", From: "Myst\nSpa", Body: "Hi"}, `"from"`},
		{"from a number without its plus", SMS{To: "+15550100123", From: "15550100124", Body: "Hi"}, `"from"`},
		{"right to left", SMS{To: "+15550100123", Body: "שלום \u202e"}, ""},
		{"an escape sequence", SMS{To: "+15550100123", Body: "\x1b[31m"}, "control character"},
		{"a NUL", SMS{To: "+15550100123", Body: "a\x00"}, "control character"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantRefusal(t, tt.sms.Validate(), tt.want) })
	}
}

func TestPromptValidate(t *testing.T) {
	many := map[string]int{}
	for i := range MaxPromptFields + 1 {
		many[fmt.Sprint("field", i)] = 0
	}
	for _, tt := range []struct {
		name   string
		prompt Prompt
		want   string // a part of the sentence; "" means valid
	}{
		{"the least", Prompt{Instructions: "Say something."}, ""},
		{"everything", Prompt{Model: "gpt-5-mini", Instructions: "Sum it up.", Input: "a\x00b", Fields: map[string]int{"summary": 200, "mood_1": 0}}, ""},
		{"no instructions", Prompt{Input: "x"}, `"instructions"`},
		{"blank instructions", Prompt{Instructions: " \n"}, `"instructions"`},
		{"half a character", Prompt{Instructions: "x", Input: "\xff"}, "UTF-8"},
		{"too much", Prompt{Instructions: "x", Input: strings.Repeat("x", MaxPromptText+1)}, "262144"},
		{"a sentence for a model", Prompt{Instructions: "x", Model: "the best one"}, `"model"`},
		{"many fields", Prompt{Instructions: "x", Fields: many}, "21 fields"},
		{"a name that is none", Prompt{Instructions: "x", Fields: map[string]int{"a.b": 1}}, "name"},
		{"a name of nothing", Prompt{Instructions: "x", Fields: map[string]int{"": 1}}, "name"},
		{"a limit below nothing", Prompt{Instructions: "x", Fields: map[string]int{"a": -1}}, "limit"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantRefusal(t, tt.prompt.Validate(), tt.want) })
	}
}

func TestEmailValidate(t *testing.T) {
	to := []string{"ann@example.com"}
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("a%d@example.com", i)
	}
	for _, tt := range []struct {
		name  string
		email Email
		want  string
	}{
		{"plain", Email{To: to, Subject: "x", Text: "x"}, ""},
		{"HTML only", Email{To: to, Subject: "x", HTML: "x"}, ""},
		{"with a name", Email{To: []string{`"Ann, of ACME" <ann@example.com>`}, Subject: "Grüße", Text: "x"}, ""},
		{"to this machine", Email{To: []string{"root@localhost"}, Subject: "x", Text: "x"}, ""},
		{"a hundred", Email{To: many[:50], Bcc: many[50:100], Subject: "x", Text: "x"}, ""},
		{"a hundred and one", Email{To: many[:50], Bcc: many[50:], Subject: "x", Text: "x"}, "101 addresses together; at most 100"},
		{"nobody", Email{Subject: "x", Text: "x"}, `the key "to" is empty`},
		{"no domain", Email{To: []string{"ann"}, Subject: "x", Text: "x"}, "has to be an e-mail address"},
		{"an empty address", Email{To: []string{""}, Subject: "x", Text: "x"}, "has to be an e-mail address"},
		{"a group", Email{To: []string{"friends: a@example.com, b@example.com;"}, Subject: "x", Text: "x"}, `the key "to"`},
		{"an address beyond ASCII", Email{To: []string{"jürgen@example.com"}, Subject: "x", Text: "x"}, "outside ASCII"},
		{"a domain beyond ASCII", Email{To: []string{"a@bücher.example"}, Subject: "x", Text: "x"}, "xn--"},
		{"a very long address", Email{To: []string{strings.Repeat("a", 250) + "@example.com"}, Subject: "x", Text: "x"}, "254"},
		{"a bad copy", Email{To: to, Cc: []string{"x"}, Subject: "x", Text: "x"}, `the key "cc"`},
		{"a bad blind copy", Email{To: to, Bcc: []string{"a@example.com", "x"}, Subject: "x", Text: "x"}, `address 2 of the key "bcc"`},
		{"a bad answer address", Email{To: to, ReplyTo: "x", Subject: "x", Text: "x"}, `the key "reply_to"`},
		{"a line break in the answer address", Email{To: to, ReplyTo: "a@example.com\nX: y", Subject: "x", Text: "x"}, "line break"},
		{"no subject", Email{To: to, Subject: " ", Text: "x"}, `the key "subject" is empty`},
		{"a long subject", Email{To: to, Subject: strings.Repeat("x", 901), Text: "x"}, "901 bytes"},
		{"a bare CR in the subject", Email{To: to, Subject: "a\rb", Text: "x"}, "line break"},
		{"a Unicode line break in the subject", Email{To: to, Subject: "a\u2028b", Text: "x"}, "line break"},
		{"a subject that is not UTF-8", Email{To: to, Subject: "a\xff", Text: "x"}, "subject"},
		{"no message", Email{To: to, Subject: "x", Text: " "}, `"text" and "html"`},
		{"a NUL in the text", Email{To: to, Subject: "x", Text: "a\x00"}, "NUL"},
		{"a text that is not UTF-8", Email{To: to, Subject: "x", HTML: "\xff"}, "UTF-8"},
		{"a header of one's own", Email{To: to, Subject: "x", Text: "x", Headers: map[string]string{"List-Unsubscribe": "<https://example.com>"}}, ""},
		{"a name twice", Email{To: to, Subject: "x", Text: "x", Headers: map[string]string{"X-A": "1", "x-a": "2"}}, "twice"},
		{"an empty name", Email{To: to, Subject: "x", Text: "x", Headers: map[string]string{"": "1"}}, "not a header name"},
		{"a name with a space", Email{To: to, Subject: "x", Text: "x", Headers: map[string]string{"X A": "1"}}, "not a header name"},
		{"a long value", Email{To: to, Subject: "x", Text: "x", Headers: map[string]string{"X-A": strings.Repeat("x", 901)}}, "901 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantRefusal(t, tt.email.Validate(), tt.want) })
	}
	for _, name := range []string{
		"From", "Sender", "To", "CC", "bcc", "Reply-To", "subject", "Date", "Message-ID", "MIME-Version", "Content-Type",
		"Content-Transfer-Encoding", "Return-Path", "Received", "DKIM-Signature", "ARC-Seal", "Resent-From", "Delivered-To",
	} {
		e := Email{To: to, Subject: "x", Text: "x", Headers: map[string]string{name: "x"}}
		wantRefusal(t, e.Validate(), "cannot be set there")
	}
}

func TestWebhookValidate(t *testing.T) {
	for _, tt := range []struct {
		url  string
		want string
	}{
		{"https://example.com", ""},
		{"http://example.com:8080/a/b?c=d&e=%20", ""},
		{"https://[2001:db8::1]:8443/", ""},
		{"https://xn--bcher-kva.example/", ""},
		{"HTTPS://EXAMPLE.COM/", ""},
		{"https://example.com/" + strings.Repeat("a", 2028), ""},
		{"https://example.com/" + strings.Repeat("a", 2029), "2049 bytes"},
		{"", "empty"},
		{"example.com", "has to begin with"},
		{"//example.com", "has to begin with"},
		{"ftp://example.com", "has to begin with"},
		{"file:///etc/passwd", "has to begin with"},
		{"javascript:alert(1)", "has to begin with"},
		{"https:example.com", "no host"},
		{"https://", "no host"},
		{"https:///path", "no host"},
		{"https://:443/", "no host"},
		{"https://user@example.com", "user name"},
		{"https://user:pass@example.com", "user name"},
		{"https://@example.com", "user name"},
		{"https://example.com/#top", "fragment"},
		{"https://example.com/#", "fragment"},
		{"https://example.com/a b", "space"},
		{"https://example.com\\@evil.example", "backslash"},
		{"https://example.com/\r\nHost: x", "control character"},
		{"https://bücher.example", "xn--"},
		{"https://１２７.0.0.1/", "outside ASCII"},
		{"https://[fe80::1%25eth0]/", "zone"},
		{"https://example.com:0/", "port"},
		{"https://example.com:/", "port"},
		{"https://example.com:65536/", "port"},
		{"https://example.com:http/", "cannot be read"},
		{"https://[::1/", "cannot be read"},
		{"https://%zz/", "cannot be read"},
	} {
		t.Run(tt.url, func(t *testing.T) { wantRefusal(t, Webhook{URL: tt.url, Body: "{}"}.Validate(), tt.want) })
	}

	header := func(name, value string) Webhook {
		return Webhook{URL: "https://example.com", Body: "{}", Headers: map[string]string{name: value}}
	}
	for _, name := range []string{
		"webhook-id", "Webhook-Timestamp", "WEBHOOK-SIGNATURE", "Host", "Content-Length", "Idempotency-Key", "x-idempotency-key",
		"Transfer-Encoding", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Expect", "Proxy-Authorization", "Content-Encoding",
	} {
		wantRefusal(t, header(name, "x").Validate(), "cannot be set there")
	}
	wantRefusal(t, header("Authorization", "Bearer x").Validate(), "")
	wantRefusal(t, header("Content-Type", "text/csv").Validate(), "")
	wantRefusal(t, header("X-A", "").Validate(), "")
	wantRefusal(t, header("X-A", "a\r\nb").Validate(), "line break")
	wantRefusal(t, header("X-A", "é").Validate(), "outside ASCII")
	wantRefusal(t, header("X-A", strings.Repeat("x", 4097)).Validate(), "4097 bytes")
	wantRefusal(t, header("X:A", "b").Validate(), "not a header name")
	wantRefusal(t, header("Ünicode", "b").Validate(), "not a header name")

	many := header("X", "y")
	for i := range 50 {
		many.Headers[fmt.Sprint("X-", i)] = "y"
	}
	wantRefusal(t, many.Validate(), "51 headers; at most 50")
	wantRefusal(t, Webhook{URL: "https://example.com"}.Validate(), `the key "body" is empty`)
}

// wantRefusal checks for a sentence with want in it, or for nil where want is
// empty.
func wantRefusal(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && err == nil:
		t.Errorf("accepted, want a refusal that says %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("refused with %q, want it to say %q", err, want)
	}
}

// TestReadContentFollowsTheContent: what a message was made from counts only
// as long as its content is still that: a delivery goes on with the bytes that
// were frozen for it.
func TestReadContentFollowsTheContent(t *testing.T) {
	t.Parallel()
	d := New()
	d.Register(ChannelSMS, nil, Policy{})
	msgs, _ := d.Plan(t.Context(), Event{Type: "sms.send", Payload: []byte(`{"to": "+15550100123", "from": "new", "body": "new"}`)})
	m := msgs[0]
	if sms, err := ReadContent[SMS](&m); err != nil || sms.Body != "new" {
		t.Errorf("as planned: %+v, %v", sms, err)
	}
	m.Content = []byte(`{"to": "+15550100123", "body": "old"}`)
	if sms, err := ReadContent[SMS](&m); err != nil || sms.Body != "old" || sms.From != "" {
		t.Errorf("with other content: %+v, %v", sms, err)
	}
	m.Content = []byte(`x`)
	if _, err := ReadContent[SMS](&m); err == nil {
		t.Error("read what is no JSON")
	}
}

type lostSender struct{ Sender }

func (lostSender) Destination(*Delivery) string { panic("lost") }

// TestDestinationPanics: a sender that cannot say where costs nothing else.
func TestDestinationPanics(t *testing.T) {
	t.Parallel()
	d := New()
	d.Register("mine", lostSender{}, Policy{})
	if got := d.Destination(&Delivery{Message: Message{Channel: "mine"}}); got != "mine" {
		t.Errorf("goes to %q", got)
	}
}
