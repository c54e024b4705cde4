package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestOddPayloads: whatever Postgres takes as JSON ends as it should, and delays
// nobody. Between any two of them there is an ordinary event.
func TestOddPayloads(t *testing.T) {
	t.Parallel()
	nested := func(depth int) string {
		return fmt.Sprintf(`('{"url": "URL", "body": ' || repeat('[', %d) || repeat(']', %[1]d) || '}')::jsonb`, depth)
	}
	body := func(json string) string { return `'{"url": "URL", "body": ` + json + `}'::jsonb` }
	sms := func(to string) string { return `jsonb_build_object('to', ` + to + `, 'body', 'hello')` }
	const routed = `jsonb_build_object('name', 'Ann', 'list', (select jsonb_agg(n) from generate_series(1, %d) as n))`
	odd := []struct {
		name, typ string
		payload   string // an expression of SQL; URL stands for that of the stand-in
		state     string
		reason    string // which is part of its last error
	}{
		{"1 MB", "webhook.send", `jsonb_build_object('url', 'URL', 'body', repeat('x', 1000000))`, "delivered", ""},
		{"50 MB", "webhook.send", `jsonb_build_object('url', 'URL', 'body', repeat('x', 50 * 1024 * 1024))`, "dead", "larger than OUTBOX_MAX_PAYLOAD_BYTES"},
		{"nested 9,990 deep", "webhook.send", nested(9990), "delivered", ""},
		{"nested 10,001 deep", "webhook.send", nested(10_001), "dead", "nested too deep"},
		{"nested 10,500 deep", "webhook.send", nested(10_500), "dead", "nested too deep"},
		{"1e400", "webhook.send", body(`{"n": 1e400}`), "delivered", ""},
		{"131,072 digits", "webhook.send", body(`{"n": 1e131071}`), "delivered", ""},
		{"beyond 53 bits", "webhook.send", body(`{"n": 9007199254740993}`), "delivered", ""},
		{"a key twice", "webhook.send", body(`{"a": 1, "a": 2}`), "delivered", ""},
		{"__proto__", "webhook.send", body(`{"__proto__": {"a": 1}}`), "delivered", ""},
		{"right to left, and four bytes", "webhook.send", body(`"\u202e 😀"`), "delivered", ""},
		{"100,000 keys", "webhook.send", `jsonb_build_object('url', 'URL', 'body', (select jsonb_object_agg('k' || n, n) from generate_series(1, 100000) as n))`, "delivered", ""},
		{"null", "sms.send", `'null'::jsonb`, "dead", "the payload is null"},
		{"a list", "sms.send", `'[1, 2]'::jsonb`, "dead", "the payload is an array"},
		{"a text", "sms.send", `'"hello"'::jsonb`, "dead", "the payload is a string"},
		{"a number", "email.send", `'7'::jsonb`, "dead", "the payload is a number"},
		{"an empty object", "email.send", `'{}'::jsonb`, "dead", `the key "to" is missing`},
		{"a missing key", "sms.send", `'{"to": "+15005550001"}'::jsonb`, "dead", `the key "body" is missing`},
		{"a short number", "sms.send", sms(`'+1'`), "dead", "E.164"},
		{"no number", "sms.send", sms(`''`), "dead", `the key "to" is empty`},
		{"a number of 5,000 digits", "sms.send", sms(`'+' || repeat('1', 5000)`), "dead", "E.164"},
		{"an address that is an object", "email.send", `'{"to": {"a": 1}, "subject": "x", "text": "y"}'::jsonb`, "dead", `the key "to" is an object`},
		{"a type that nobody knows", "no.such", `'{}'::jsonb`, "skipped", "no.such"},

		{"nested 9,990 deep, as objects", "webhook.send", `('{"url": "URL", "body": ' || repeat('{"a":', 9990) || '1' || repeat('}', 9990) || '}')::jsonb`, "delivered", ""},
		{"nested 10,001 deep, as objects", "webhook.send", `('{"url": "URL", "body": ' || repeat('{"a":', 10001) || '1' || repeat('}', 10001) || '}')::jsonb`, "dead", "nested too deep"},
		{"-1e400", "webhook.send", body(`{"n": -1e400}`), "delivered", ""},
		{"1e-400", "webhook.send", body(`{"n": 1e-400}`), "delivered", ""},
		{"-0", "webhook.send", body(`{"n": -0}`), "delivered", ""},
		{"16,000 digits behind the point", "webhook.send", body(`{"n": 1e-16000}`), "delivered", ""},
		{"an empty key", "webhook.send", body(`{"": {"": 1}}`), "delivered", ""},
		{"a key of 100,000 letters", "webhook.send", `jsonb_build_object('url', 'URL', 'body', jsonb_build_object(repeat('k', 100000), 1))`, "delivered", ""},
		{"a list of 100,000 empty lists", "webhook.send", `jsonb_build_object('url', 'URL', 'body', (select jsonb_agg('[]'::jsonb) from generate_series(1, 100000)))`, "delivered", ""},
		{"control characters", "webhook.send", body(`"\u0001 \u001b[31m \u007f \u0085"`), "delivered", ""},
		{"separators of lines", "webhook.send", body(`"\u2028 \u2029 \ufeff"`), "delivered", ""},
		{"no characters", "webhook.send", body(`"\uffff \ufffe \ufdd0"`), "delivered", ""},
		{"letters that combine", "webhook.send", `jsonb_build_object('url', 'URL', 'body', 'e' || repeat(chr(769), 10000))`, "delivered", ""},
		{"no body", "webhook.send", `'{"url": "URL"}'::jsonb`, "dead", `the key "body" is missing`},
		{"a body of null", "webhook.send", body(`null`), "dead", `the key "body" is missing`},
		{"a URL that is a list", "webhook.send", `'{"url": ["URL"], "body": 1}'::jsonb`, "dead", `the key "url" is an array`},
		{"an empty URL", "webhook.send", `'{"url": "", "body": 1}'::jsonb`, "dead", `the key "url" is empty`},
		{"a URL with a line break", "webhook.send", `jsonb_build_object('url', E'URL\r\nx: y', 'body', 1)`, "dead", "url"},
		{"a URL of a file", "webhook.send", `'{"url": "file:///etc/passwd", "body": 1}'::jsonb`, "dead", "url"},
		{"a URL of 1 MB", "webhook.send", `jsonb_build_object('url', 'URL/' || repeat('x', 1000000), 'body', 1)`, "dead", "url"},
		{"a number in the place of a number", "sms.send", `'{"to": 15005550001, "body": "hello"}'::jsonb`, "dead", `the key "to" is a number`},
		{"a number with letters", "sms.send", sms(`'+1500555000x'`), "dead", "E.164"},
		{"digits that are not ours", "sms.send", sms(`'+١٥٠٠٥٥٥٠٠٠١'`), "dead", "E.164"},
		{"a number with a line break", "sms.send", sms(`E'+15005550001\n'`), "dead", "E.164"},
		{"an SMS of 100,000 letters", "sms.send", `jsonb_build_object('to', '+15005550001', 'body', repeat('x', 100000))`, "dead", "body"},
		{"an empty SMS", "sms.send", `'{"to": "+15005550001", "body": ""}'::jsonb`, "dead", `the key "body" is empty`},
		{"a subject with a line break", "email.send", `jsonb_build_object('to', 'ann@example.com', 'subject', E'hello\r\nBcc: eve@example.com', 'text', 'x')`, "dead", "subject"},
		{"an address with a line break", "email.send", `jsonb_build_object('to', E'ann@example.com\r\nBcc: eve@example.com', 'subject', 'x', 'text', 'x')`, "dead", "to"},
		{"an address without a host", "email.send", `'{"to": "ann@", "subject": "x", "text": "y"}'::jsonb`, "dead", "to"},
		{"an address of 10,000 letters", "email.send", `jsonb_build_object('to', repeat('a', 10000) || '@example.com', 'subject', 'x', 'text', 'y')`, "dead", "to"},
		{"a mail of 900,000 letters in one line", "email.send", `jsonb_build_object('to', 'ann@example.com', 'subject', 'x', 'text', repeat('x', 900000))`, "delivered", ""},
		{"lines of a single point", "email.send", `jsonb_build_object('to', 'ann@example.com', 'subject', 'x', 'text', E'.\r\n..\r\n.\r\nQUIT\r\n')`, "delivered", ""},
		{"a type of 10,000 letters", "TYPE", `'{}'::jsonb`, "skipped", "tttt"},

		{"a template that fails at its first byte", "first", `'{}'::jsonb`, "dead", `there is no key "name"`},
		{"a template that fails at its last byte", "last", `'{"name": "Ann"}'::jsonb`, "dead", `there is no key "end"`},
		{"a range over a list", "range", fmt.Sprintf(routed, 100), "delivered", ""},
		{"a range over a huge list", "range", fmt.Sprintf(routed, 300_000), "dead", "at most 10000 elements"},
		{"no list to range over", "range", `'{"name": "Ann", "list": 7}'::jsonb`, "dead", "this is a number"},
		{"a routed null, whose keys are empty", "range", `'null'::jsonb`, "delivered", ""},
		{"routed, nested 10,500 deep", "first", `(repeat('[', 10500) || repeat(']', 10500))::jsonb`, "dead", "exceeded max depth"},
	}
	w := newWorld(t)
	routes := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(routes, []byte(oddRoutes), 0o600); err != nil {
		t.Fatal(err)
	}
	ordinary := fmt.Sprintf(`insert into outbox_events (type, payload) values ('webhook.send', '{"url": "%s", "body": "ordinary"}')`, w.webhook.URL())
	for _, tt := range odd {
		pgtest.Exec(t, w.db, ordinary)
		pgtest.Exec(t, w.db, `insert into outbox_events (type, payload) values ($1, `+strings.ReplaceAll(tt.payload, "URL", w.webhook.URL())+`)`, strings.ReplaceAll(tt.typ, "TYPE", strings.Repeat("t", 10_000)))
	}
	pgtest.Exec(t, w.db, ordinary)
	for _, refused := range []string{`'{"a": "\u0000"}'`, `'"\ud800"'`} { // by Postgres, for everybody
		if _, err := w.db.Pool.Exec(t.Context(), `insert into outbox_events (type, payload) values ('log.send', `+refused+`)`); err == nil {
			t.Errorf("Postgres takes %s", refused)
		}
	}
	env := maps.Clone(w.env)
	maps.Copy(env, map[string]string{"OUTBOX_ROUTES": routes, "OUTBOX_MAX_PAYLOAD_BYTES": "4194304"})
	p := newProc(t, t.TempDir(), env)
	p.cmd.Path = withoutRace(t) // that of the test has the race detector, which takes several times the memory
	p.start()
	pgtest.Drains(t, 60*time.Second, "events are not processed", func() int { return open(t, w.db) })
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)); err == nil {
		const most = 256 << 10 // KiB
		kib := 0
		if found := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindStringSubmatch(string(text)); found != nil {
			_, _ = fmt.Sscan(found[1], &kib)
		}
		if t.Logf("%d MiB at most", kib>>10); kib == 0 || kib > most {
			t.Errorf("it had %d KiB of memory, want %d at most", kib, most)
		}
	}
	for i, tt := range odd {
		t.Run(tt.name, func(t *testing.T) {
			var state, reason string
			err := w.db.Pool.QueryRow(t.Context(), `select state, coalesce(last_error, '') from outbox.deliveries where event_seq = $1`, 2*(i+1)).Scan(&state, &reason)
			if err != nil || state != tt.state || !strings.Contains(reason, tt.reason) {
				t.Errorf("%s: %s (%v); want %s: %s", state, reason, err, tt.state, tt.reason)
			}
		})
	}
	n := pgtest.QueryVal[int](t, w.db, `select count(*) from outbox.deliveries where event_seq % 2 = 1 and state = 'delivered' and attempts = 1`)
	if n != len(odd)+1 {
		t.Errorf("%d of %d ordinary events are delivered at once", n, len(odd)+1)
	}
	if n := pgtest.QueryVal[int](t, w.db, `select count(*) from outbox.crashes`); n != 0 {
		t.Errorf("%d crashes", n)
	}
}

// withoutRace builds the program without the race detector, and returns its path.
func withoutRace(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "listener.exe")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// oddRoutes send to the stand-in for SMS.
const oddRoutes = `version: 1
routes:
  - name: first
    event: first
    deliver:
      - name: text
        sms: {to: '+12025550123', body: '{{.payload.name}}, hello'}
  - name: last
    event: last
    deliver:
      - name: text
        sms: {to: '+12025550123', body: 'Hello, {{.payload.name}} {{.payload.end}}'}
  - name: range
    event: range
    deliver:
      - name: text
        sms: {to: '+12025550123', body: 'Hello, {{range .payload.list}}{{.}},{{end}}'}
`
