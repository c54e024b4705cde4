package dispatch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// plan returns the one message that a direct event becomes.
func plan(t testing.TB, typ, payload string) Message {
	t.Helper()
	f, ok := directEvents[typ]
	if !ok {
		t.Fatalf("no direct event %q", typ)
	}
	ev := Event{ID: uuid.New(), Type: typ, Payload: json.RawMessage(payload), CreatedAt: time.Now()}
	msgs := f(t.Context(), ev)
	if len(msgs) != 1 {
		t.Fatalf("%s became %d messages, want 1", typ, len(msgs))
	}
	return msgs[0]
}

func TestDirectSendable(t *testing.T) {
	for _, tt := range []struct {
		name, typ, payload string
		recipient, content string
	}{
		{
			"an SMS", "sms.send", `{"to":"+15550100123","body":"Hi"}`,
			"+15550100123", `{"to":"+15550100123","body":"Hi"}`,
		},
		{
			"an SMS with everything, keys in any order", "sms.send", ` {"body":"a\nb","from":"Myst Spa","to":"+15550100123"} `,
			"+15550100123", `{"to":"+15550100123","from":"Myst Spa","body":"a\nb"}`,
		},
		{
			"unknown keys and nulls are ignored", "sms.send", `{"to":"+15550100123","body":"Hi","from":null,"note":{"a":1}}`,
			"+15550100123", `{"to":"+15550100123","body":"Hi"}`,
		},
		{
			"an SMS of 1,600 characters", "sms.send", `{"to":"+15550100123","body":"` + strings.Repeat("é", 1600) + `"}`,
			"+15550100123", `{"to":"+15550100123","body":"` + strings.Repeat("é", 1600) + `"}`,
		},
		{
			"an e-mail", "email.send", `{"to":"Ann <ann@example.com>","subject":"Hi","text":"Hello"}`,
			"ann@example.com", `{"to":["Ann \u003cann@example.com\u003e"],"subject":"Hi","text":"Hello"}`,
		},
		{
			"an e-mail with everything", "email.send",
			`{"to":["ann@example.com","bob@example.com"],"cc":"c@example.com","bcc":["d@example.com"],"subject":"Hi",` +
				`"html":"<p>","reply_to":"e@example.com","headers":{"X-B":"2","List-Unsubscribe":"1"}}`,
			"ann@example.com",
			`{"to":["ann@example.com","bob@example.com"],"cc":["c@example.com"],"bcc":["d@example.com"],"subject":"Hi",` +
				`"html":"\u003cp\u003e","reply_to":"e@example.com","headers":{"List-Unsubscribe":"1","X-B":"2"}}`,
		},
		{
			"an e-mail with files", "email.send",
			`{"to":"ann@example.com","subject":"Hi","text":"x","attachments":[{"name":"a.txt","content":"aGVs\r\nbG8=\n","note":1},` +
				`{"content":"","type":"image/png","name":"é"}]}`,
			"ann@example.com",
			`{"to":["ann@example.com"],"subject":"Hi","text":"x","attachments":[{"name":"a.txt","content":"aGVsbG8="},` +
				`{"name":"é","type":"image/png","content":""}]}`,
		},
		{"an e-mail with no files", "email.send", `{"to":"ann@example.com","subject":"Hi","text":"x","attachments":[]}`, "ann@example.com", `{"to":["ann@example.com"],"subject":"Hi","text":"x"}`},
		{
			"a webhook with an object, to the last digit", "webhook.send",
			`{"url":"https://example.com/a?b=c","body": {"n": 9007199254740993, "x": 1.0e400, "a": [ ]} }`,
			"https://example.com/a?b=c",
			`{"url":"https://example.com/a?b=c","body":"{\"n\": 9007199254740993, \"x\": 1.0e400, \"a\": [ ]}"}`,
		},
		{
			"a webhook with a text", "webhook.send", `{"url":"https://example.com","body":"plain \u00e9","headers":{"Content-Type":"text/plain"}}`,
			"https://example.com",
			`{"url":"https://example.com","body":"plain é","headers":{"Content-Type":"text/plain"}}`,
		},
		{"a webhook with a number", "webhook.send", `{"url":"http://example.com","body":0}`, "http://example.com", `{"url":"http://example.com","body":"0"}`},
		{"a webhook with false", "webhook.send", `{"url":"http://example.com","body":false}`, "http://example.com", `{"url":"http://example.com","body":"false"}`},
		{"a log line", "log.send", `[1, 1e400]`, "", `[1, 1e400]`},
		{"a log line of null", "log.send", `null`, "", `null`},
		{"a log line of nothing", "log.send", ``, "", `null`},
		{"something to discard", "discard.send", `{"a":1}`, "", `{"a":1}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := plan(t, tt.typ, tt.payload)
			if m.Refused != "" {
				t.Fatalf("refused: %s", m.Refused)
			}
			channel, _, _ := strings.Cut(tt.typ, ".")
			if m.Route != "direct" || m.Step != channel || m.Channel != Channel(channel) {
				t.Errorf("route %q, step %q, channel %q", m.Route, m.Step, m.Channel)
			}
			if m.Recipient != tt.recipient {
				t.Errorf("recipient = %q, want %q", m.Recipient, tt.recipient)
			}
			if string(m.Content) != tt.content {
				t.Errorf("content = %s\nwant      %s", m.Content, tt.content)
			}
		})
	}
}

func TestDirectRefused(t *testing.T) {
	deep := strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001)
	for _, tt := range []struct {
		name, typ, payload string
		want               string // a part of the sentence
	}{
		{"null", "sms.send", `null`, `the payload is null; it has to be an object with the keys to, body and optionally from`},
		{"an array", "sms.send", `[{"to":"+15550100123"}]`, `the payload is an array`},
		{"a string", "email.send", `"x"`, `the payload is a string`},
		{"a number", "webhook.send", `1e400`, `the payload is a number`},
		{"nothing", "sms.send", ``, `cannot be read as JSON`},
		{"half of it", "sms.send", `{"to":`, `cannot be read as JSON`},
		{"too deep", "sms.send", `{"to":"+15550100123","body":"x","extra":` + deep + `}`, `nested too deep`},
		{"too deep for a webhook", "webhook.send", `{"url":"https://example.com","body":` + deep + `}`, `nested too deep`},
		{"too deep for the log", "log.send", deep, `nested too deep`},
		{"an empty object", "sms.send", `{}`, `the key "to" is missing; accepted are to, body and optionally from`},
		{"to is null", "sms.send", `{"to":null,"body":"x"}`, `the key "to" is missing`},
		{"another case", "sms.send", `{"To":"+15550100123","body":"x"}`, `(is "To" meant to be it?)`},
		{"another word", "sms.send", `{"phone_number":"+15550100123","body":"x"}`, `(is "phone_number" meant to be it?)`},
		{"a letter too much", "webhook.send", `{"url":"https://example.com","bodyy":1}`, `the key "body" is missing (is "bodyy" meant to be it?)`},
		{"two letters swapped", "email.send", `{"to":"a@example.com","sujbect":"x","text":"x"}`, `(is "sujbect" meant to be it?)`},
		{"no text", "email.send", `{"to":"a@example.com","subject":"x","body":"x"}`, `the keys "text" and "html" are both missing (is "body" meant to be it?)`},
		{"to is a number", "sms.send", `{"to":15550100123,"body":"x"}`, `the key "to" is a number; it has to be a string`},
		{"to is an array", "sms.send", `{"to":["+15550100123"],"body":"x"}`, `the key "to" is an array; it has to be a string`},
		{"to has no plus", "sms.send", `{"to":"15550100123","body":"x"}`, `E.164`},
		{"to is a plus and a digit", "sms.send", `{"to":"+1","body":"x"}`, `E.164`},
		{"to is very long", "sms.send", `{"to":"+` + strings.Repeat("1", 5000) + `","body":"x"}`, `E.164`},
		{"to is empty", "sms.send", `{"to":"","body":"x"}`, `the key "to" is empty`},
		{"body is empty", "sms.send", `{"to":"+15550100123","body":" \n"}`, `the key "body" is empty`},
		{"body is an object", "sms.send", `{"to":"+15550100123","body":{}}`, `the key "body" is an object`},
		{"body is too long", "sms.send", `{"to":"+15550100123","body":"` + strings.Repeat("é", 1601) + `"}`, `1601 characters long; at most 1600`},
		{"body rings a bell", "sms.send", `{"to":"+15550100123","body":"\u0007"}`, `control character`},
		{"an impossible sender", "sms.send", `{"to":"+15550100123","body":"x","from":"a name of twenty letters"}`, `the key "from"`},
		{"no address", "email.send", `{"to":"nobody","subject":"x","text":"x"}`, `the key "to" has to be an e-mail address`},
		{"no addresses", "email.send", `{"to":[],"subject":"x","text":"x"}`, `the key "to" is empty`},
		{"an address that is none among others", "email.send", `{"to":["a@example.com","x"],"subject":"x","text":"x"}`, `address 2 of the key "to"`},
		{"a null among the addresses", "email.send", `{"to":["a@example.com",null],"subject":"x","text":"x"}`, `has null at position 2`},
		{"addresses in an object", "email.send", `{"to":{"a":"a@example.com"},"subject":"x","text":"x"}`, `it has to be a string or an array of strings`},
		{"a list in one text", "email.send", `{"to":"a@example.com, b@example.com","subject":"x","text":"x"}`, `several addresses are an array`},
		{"a line break in an address", "email.send", `{"to":"a@example.com\r\nBcc: b@example.com","subject":"x","text":"x"}`, `line break`},
		{"a NUL in the subject", "email.send", `{"to":"a@example.com","subject":"x\u0000","text":"x"}`, `the key "subject" has a line break or another control character`},
		{"a header in the subject", "email.send", `{"to":"a@example.com","subject":"x\nBcc: b@example.com","text":"x"}`, `the key "subject" has a line break`},
		{"a header in a header", "email.send", `{"to":"a@example.com","subject":"x","text":"x","headers":{"X-A":"b\r\nBcc: c@example.com"}}`, `the key "headers" has a value with a line break`},
		{"a header that is ours", "email.send", `{"to":"a@example.com","subject":"x","text":"x","headers":{"FROM":"b@example.com"}}`, `sets from, which cannot be set there`},
		{"a header with a colon", "email.send", `{"to":"a@example.com","subject":"x","text":"x","headers":{"X-A: b\r\nFrom":"c"}}`, `not a header name`},
		{"headers in an array", "email.send", `{"to":"a@example.com","subject":"x","text":"x","headers":["X-A"]}`, `it has to be an object of header names and values`},
		{"a header that is a number", "webhook.send", `{"url":"https://example.com","body":1,"headers":{"X-A":1}}`, `not a string`},
		{"a file that is none", "email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":"x"}`, `the key "attachments" is a string; it has to be an array of objects with the keys name, content and optionally type`},
		{"a file among numbers", "email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":[{"name":"a","content":""},1]}`, `the key "attachments" has a number at position 2; it has to be an array of objects`},
		{"a file without a name", "email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":[{"filename":"a","content":""}]}`, `attachment 1 of the key "attachments": the key "name" is missing (is "filename" meant to be it?); accepted are name, content and optionally type`},
		{"a file without content", "email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":[{"name":"a","content":""},{"name":"b","content":null}]}`, `attachment 2 of the key "attachments": the key "content" is missing`},
		{"a file that is text", "email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":[{"name":"a","content":"Hello, you"}]}`, `attachment 1 of the key "attachments": the key "content" is not base64`},
		{"a file in base64 for URLs", "email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":[{"name":"a","content":"_-8="}]}`, `is not base64`},
		{"a file without its padding", "email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":[{"name":"a","content":"aGVsbG8"}]}`, `is not base64`},
		{"a file with a path", "email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":[{"name":"../a","content":""}]}`, `attachment 1 of the key "attachments" has a path in its "name"`},
		{"a type of file that is a number", "email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":[{"name":"a","type":1,"content":""}]}`, `attachment 1 of the key "attachments": the key "type" is a number; it has to be a string`},
		{"too many files", "email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":[` + strings.Repeat(`{"name":"a","content":""},`, 20) + `{"name":"a","content":""}]}`, `has 21 files; at most 20`},
		{"no URL", "webhook.send", `{"body":1}`, `the key "url" is missing`},
		{"a URL without a host", "webhook.send", `{"url":"/hooks","body":1}`, `has to begin with https:// or http://`},
		{"no body", "webhook.send", `{"url":"https://example.com","data":{}}`, `the key "body" is missing (is "data" meant to be it?)`},
		{"a null body", "webhook.send", `{"url":"https://example.com","body":null}`, `the key "body" is missing`},
		{"an empty body", "webhook.send", `{"url":"https://example.com","body":""}`, `the key "body" is empty`},
		{"the id replaced", "webhook.send", `{"url":"https://example.com","body":1,"headers":{"Webhook-Id":"x"}}`, `one of the headers webhook-…`},
		{"not UTF-8", "sms.send", "{\"to\":\"+15550100123\",\"body\":\"\xff\"}", `not valid UTF-8`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := plan(t, tt.typ, tt.payload)
			if !strings.Contains(m.Refused, tt.want) {
				t.Errorf("refused = %q, want it to say %q", m.Refused, tt.want)
			}
			if !strings.HasPrefix(m.Refused, tt.typ+": ") || len(m.Refused) > 400 {
				t.Errorf("refused = %q", m.Refused)
			}
			if m.Content != nil || m.Recipient != "" || m.Skip != "" {
				t.Errorf("a refused message has more to it: %+v", m)
			}
		})
	}
}

// What a payload holds must not get into the reason why it was refused.
func TestDirectRefusalRepeatsNothing(t *testing.T) {
	const canary = "ca7naryx"
	for _, tt := range []struct{ typ, payload string }{
		{"sms.send", `{"to":"%s","body":"x"}`},
		{"sms.send", `{"%s":"+15550100123","body":"x"}`},
		{"sms.send", `{"to":"+15550100123","body":"%s\u0001"}`},
		{"sms.send", `{"to":"+15550100123","body":"x","from":"%s that is long"}`},
		{"sms.send", `"%s"`},
		{"sms.send", `{"to":"%s`},
		{"email.send", `{"to":"%s","subject":"x","text":"x"}`},
		{"email.send", `{"to":"%s@a b","subject":"x","text":"x"}`},
		{"email.send", `{"to":"a@example.com","subject":"%s\n","text":"x"}`},
		{"email.send", `{"to":"a@example.com","subject":"x","text":"x","headers":{"%s\n":"x"}}`},
		{"email.send", `{"to":"a@example.com","subject":"x","text":"x","headers":{"Content-%s":"x"}}`},
		{"email.send", `{"to":"a@example.com","subject":"x","text":"x","headers":{"X":"%s\n"}}`},
		{"email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":[{"name":"%s/","content":""}]}`},
		{"email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":[{"name":"x","type":"%s","content":""}]}`},
		{"email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":[{"name":"x","content":"%s."}]}`},
		{"email.send", `{"to":"a@example.com","subject":"x","text":"x","attachments":[{"%s":"x","content":""}]}`},
		{"webhook.send", `{"url":"%s","body":1}`},
		{"webhook.send", `{"url":"https://%s@example.com","body":1}`},
		{"webhook.send", `{"url":"https://example.com:%s","body":1}`},
		{"webhook.send", `{"url":"https://example.com/%%zz%s","body":1}`},
		{"webhook.send", `{"url":"https://example.com","body":1,"headers":{"webhook-%s":"x"}}`},
		{"log.send", `%s`},
	} {
		m := plan(t, tt.typ, fmt.Sprintf(tt.payload, canary))
		if m.Refused == "" || strings.Contains(strings.ToLower(m.Refused), canary) {
			t.Errorf("%s %s: refused = %q", tt.typ, tt.payload, m.Refused)
		}
	}
}

func TestDirectIsDeterministic(t *testing.T) {
	headers := make([]string, 40)
	for i := range headers {
		headers[i] = fmt.Sprintf(`"X-%d":"%d"`, i, i)
	}
	var first Message
	for n := range 20 {
		rand.Shuffle(len(headers), func(i, j int) { headers[i], headers[j] = headers[j], headers[i] })
		m := plan(t, "webhook.send", `{"url":"https://example.com","body":{"b":1,"a":2},"headers":{`+strings.Join(headers, ",")+`}}`)
		if m.Refused != "" {
			t.Fatal(m.Refused)
		}
		if n == 0 {
			first = m
		}
		if !bytes.Equal(m.Content, first.Content) {
			t.Fatalf("content differs:\n%s\n%s", m.Content, first.Content)
		}
	}
}

func TestDirectManyKeys(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"__proto__":{"to":"x"},"to":"+15550100123","body":"x"`)
	for i := range 100_000 {
		fmt.Fprintf(&b, `,"k%d":%d`, i, i)
	}
	b.WriteString(`}`)
	if m := plan(t, "sms.send", b.String()); m.Refused != "" {
		t.Error(m.Refused)
	}
}

func TestOneApart(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"body", "body", true},
		{"bdy", "body", true},
		{"bodyy", "body", true},
		{"bode", "body", true},
		{"boyd", "body", true},
		{"bo", "body", false},
		{"ydob", "body", false},
		{"", "a", true},
		{"", "ab", false},
	} {
		if got := oneApart(tt.a, tt.b); got != tt.want {
			t.Errorf("oneApart(%q, %q) = %t", tt.a, tt.b, got)
		}
	}
}

func FuzzDirect(f *testing.F) {
	types := []string{"sms.send", "email.send", "webhook.send", "log.send", "discard.send"}
	for _, p := range []string{
		`{"to":"+15550100123","body":"Hi","from":"Myst"}`,
		`{"to":["a@example.com"],"cc":"b@example.com","bcc":[],"subject":"x","text":"y","html":"<p>","reply_to":"c@example.com","headers":{"X-A":"b"}}`,
		`{"to":"a@example.com","subject":"x","html":"y","attachments":[{"name":"a","type":"text/csv","content":"aGVs\nbG8="},{"name":"b","content":""}]}`,
		`{"url":"https://example.com/a?b=c","body":{"n":9007199254740993},"headers":{"X-A":"b"}}`,
		`{"url":"http://[::1%25a]:80","body":"x"}`, `{"To":1}`, `{}`, `[]`, `null`, ``, `{"to":{}}`, `{"to":[[]],"subject":1}`,
		strings.Repeat("[", 10_001), `1e131071`, `"\ud800"`, `{"body":"\u202e","to":"+15550100123"}`,
	} {
		for i := range types {
			f.Add(uint8(i), []byte(p))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, payload []byte) {
		typ := types[int(which)%len(types)]
		given := slices.Clone(payload)
		m, again := plan(t, typ, string(payload)), plan(t, typ, string(payload))
		if !bytes.Equal(m.Content, again.Content) || m.Refused != again.Refused || m.Recipient != again.Recipient {
			t.Fatalf("two plans differ: %+v and %+v", m, again)
		}
		if !bytes.Equal(given, payload) {
			t.Fatal("the payload was changed")
		}
		if m.Refused != "" {
			if m.Content != nil || m.Recipient != "" || len(m.Refused) > 400 {
				t.Fatalf("refused: %+v", m)
			}
			return
		}
		if !json.Valid(m.Content) {
			t.Fatalf("content is not JSON: %q", m.Content)
		}
		switch m.Channel {
		case ChannelSMS:
			var c SMS
			checkContent(t, m, &c, func() string { return c.To })
		case ChannelEmail:
			var c Email
			checkContent(t, m, &c, func() string { return Addr(c.To[0]) })
		case ChannelWebhook:
			var c Webhook
			checkContent(t, m, &c, func() string { return c.URL })
		}
	})
}

// checkContent reads a planned message as its sender will.
func checkContent(t *testing.T, m Message, c interface{ Validate() error }, recipient func() string) {
	t.Helper()
	if err := json.Unmarshal(m.Content, c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatalf("planned %s, which is not valid: %v", m.Content, err)
	}
	if m.Recipient == "" || m.Recipient != recipient() {
		t.Fatalf("recipient %q of content %s", m.Recipient, m.Content)
	}
	if raw, err := json.Marshal(c); err != nil || !bytes.Equal(raw, m.Content) {
		t.Fatalf("content %s reads back as %s (%v)", m.Content, raw, err)
	}
}
