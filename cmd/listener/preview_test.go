package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch/preview"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// skipsAll has steps of channels that are not configured.
const skipsAll = `version: 1
routes:
  - name: quote-sent
    event: quote.sent
    deliver:
      - {name: summary, openai: {instructions: Sum it up.}}
      - name: hook
        after: summary
        webhook: {url: https://example.com/hooks, json: {sum: '{{.steps.summary.text}}'}}
`

const quoteID = "7d2f1a7e-3c55-4c0e-9a50-0f6a1c2b3d4e"

// quoteFolder has the routes file of docs/preview.md.
func quoteFolder(t *testing.T) (dir string, p page) {
	t.Helper()
	all := pages(t, false)
	i := slices.IndexFunc(all, func(p page) bool { return strings.HasSuffix(p.path, "preview.md") })
	if i < 0 {
		t.Fatal("no docs/preview.md")
	}
	dir = t.TempDir()
	put(t, dir, "routes.yaml", all[i].blocks("yaml")[0])
	return dir, all[i]
}

// quotes are the world of docs/preview.md, with a model.
type quotes struct {
	*world
	ai *standin.OpenAI
}

// quoteWorld has the table and the event of docs/preview.md, too.
func quoteWorld(t *testing.T) (w quotes, dir string, p page) {
	t.Helper()
	var err error
	dir, p = quoteFolder(t)
	w.world = newWorld(t)
	pgtest.Exec(t, w.db, p.blocks("sql")[0])
	w.env["OUTBOX_ROUTES"] = filepath.Join(dir, "routes.yaml")
	w.env["SITE_URL"] = "https://shop.example.com"
	if w.ai, err = standin.NewOpenAI("sk-standin"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.ai.Close() })
	w.env["OPENAI_API_KEY"], w.env["OPENAI_BASE_URL"] = "sk-standin", w.ai.URL()
	return w, dir, p
}

// readOnly is env with sessions that cannot write.
func readOnly(env map[string]string) map[string]string {
	out := maps.Clone(env)
	out["DATABASE_URL"] += "&default_transaction_read_only=on"
	return out
}

// previewOf runs preview --json.
func previewOf(t *testing.T, env map[string]string, code int, args ...string) (p preview.Preview, stderr string) {
	t.Helper()
	got := call(t, env, append([]string{"preview", "--json"}, args...)...)
	if got.code != code {
		t.Fatalf("exit code %d, want %d: %s%s", got.code, code, got.stdout, got.stderr)
	}
	dec := json.NewDecoder(strings.NewReader(got.stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		t.Fatalf("%v: %s", err, got.stdout)
	}
	return p, got.stderr
}

func step(t *testing.T, p preview.Preview, name string) preview.Delivery {
	t.Helper()
	i := slices.IndexFunc(p.Deliveries, func(d preview.Delivery) bool { return d.Step == name })
	if i < 0 {
		t.Fatalf("no step %s", name)
	}
	return p.Deliveries[i]
}

// blockOutput is the n-th block of p without a language, without its command.
func blockOutput(t *testing.T, p page, n int) string {
	t.Helper()
	_, text, ok := strings.Cut(p.blocks("")[n], "\n")
	if !ok {
		t.Fatalf("block %d has no output", n)
	}
	return text
}

// TestPreviewPage: what the page shows is what the program prints.
func TestPreviewPage(t *testing.T) {
	t.Parallel()
	w, dir, p := quoteWorld(t)
	same := func(what, got, want string) {
		if strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("%s prints\n%s\nand the page has\n%s", what, got, want)
		}
	}
	got := call(t, readOnly(w.env), "preview", quoteID, "--now", "2026-12-01T15:00:01Z")
	same("preview", got.stdout, blockOutput(t, p, 0))

	if err := os.Mkdir(filepath.Join(dir, testsFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, dir, testsFolder+"/quote.event.json", p.blocks("json")[0])
	env := map[string]string{"OUTBOX_ROUTES": filepath.Join(dir, "routes.yaml")}
	if got := call(t, env, "routes", "test", "--update"); got.code != exitOK || got.stdout != "wrote quote (4 deliveries)\n1 test as expected\n" {
		t.Errorf("update: %d, %s%s", got.code, got.stdout, got.stderr)
	}
	same("routes test", call(t, env, "routes", "test").stdout, blockOutput(t, p, 1))
	put(t, dir, "routes.yaml", strings.Replace(p.blocks("yaml")[0], "{max_segments: 1,", "{max_chars: 60,", 1))
	got = call(t, env, "routes", "test")
	if got.code != exitFailures {
		t.Errorf("a difference: exit code %d", got.code)
	}
	same("a difference", strings.ReplaceAll(got.stdout, dir+string(filepath.Separator), ""), blockOutput(t, p, 2))
}

// TestPreviewWritesNothing: sessions that cannot write are enough, and the event
// is as it was.
func TestPreviewWritesNothing(t *testing.T) {
	t.Parallel()
	w, _, _ := quoteWorld(t)
	const event = `select e::text || e.xmin::text from outbox_events as e`
	before := pgtest.QueryVal[string](t, w.db, event)
	p, _ := previewOf(t, readOnly(w.env), exitOK, quoteID)
	if len(p.Deliveries) != 4 || p.Event.Type != "quote.sent" || p.Now.IsZero() {
		t.Errorf("%+v", p)
	}
	if after := pgtest.QueryVal[string](t, w.db, event); after != before {
		t.Errorf("the event was %s and is %s", before, after)
	}
	if n := pgtest.QueryVal[int](t, w.db, `select count(*) from outbox.deliveries`); n != 0 {
		t.Errorf("%d deliveries on record", n)
	}
	sms, _ := w.twilio.Requests()
	if mails := w.smtp.Connections(); sms+mails != 0 {
		t.Errorf("%d requests for SMS, %d connections for e-mail", sms, mails)
	}
}

// TestPreviewIsWhatIsSent: the same text to the same number, and afterwards the
// preview says that it is on record.
func TestPreviewIsWhatIsSent(t *testing.T) {
	t.Parallel()
	w, _, _ := quoteWorld(t)
	before, _ := previewOf(t, w.env, exitOK, quoteID, "--with-ai")
	if got := call(t, w.env, "--once"); got.code != exitOK {
		t.Fatalf("%d: %s", got.code, got.stderr)
	}
	sent := w.twilio.Received()
	text := step(t, before, "text")
	if len(sent) != 1 || sent[0].Recipient != text.Recipient || sent[0].Body != strings.Join(text.SMS.Body, "\n") {
		t.Errorf("sent %+v, previewed %+v %+v", sent, text, text.SMS)
	}
	after, _ := previewOf(t, readOnly(w.env), exitOK, quoteID)
	if step(t, before, "text").Copy[0].Source != "ai" {
		t.Errorf("the model was not asked: %+v", before)
	}
	if after.Event.OnRecord != len(before.Deliveries) || after.Event.ProcessedAt.IsZero() || before.Event.OnRecord != 0 || !before.Event.ProcessedAt.IsZero() {
		t.Errorf("on record: before %+v, after %+v", before.Event, after.Event)
	}
	if got := call(t, w.env, "preview", quoteID); !strings.Contains(got.stdout, "The event is on record already, with 4 deliveries: those are what is sent.") {
		t.Errorf("nothing says so: %s", got.stdout)
	}
	states := pgtest.QueryVals[string](t, w.db, `select step || ' ' || state from outbox.deliveries order by id`)
	if n := pgtest.QueryVal[int](t, w.db, `select count(*) from notes where quote_id = 42 and body <> ''`); n != 1 {
		t.Errorf("%d notes", n)
	}
	for _, d := range before.Deliveries {
		want := d.Step + " " + string(d.State)
		if d.State == "ready" {
			want = d.Step + " delivered"
		}
		if !slices.Contains(states, want) {
			t.Errorf("%s is not on record; there are %q", want, states)
		}
	}
}

func TestPreviewOptions(t *testing.T) {
	t.Parallel()
	w, dir, _ := quoteWorld(t)
	ai := w.ai
	env := readOnly(w.env)

	p, _ := previewOf(t, env, exitOK, quoteID)
	if c := step(t, p, "text").Copy; len(c) != 1 || c[0] != (preview.Copy{Field: "sms", Source: "fallback", Reason: "preview: not asked"}) || len(ai.Asked()) != 0 {
		t.Errorf("not asked: %+v, %d requests", c, len(ai.Asked()))
	}
	if d := step(t, p, "note"); d.State != "ready" || !slices.Equal(d.WaitsFor, []string{"summary"}) || d.SQL != nil {
		t.Errorf("without an answer: %+v", d)
	}
	p, _ = previewOf(t, env, exitOK, quoteID, "--with-ai")
	if c := step(t, p, "text").Copy; len(c) != 1 || c[0].Source != "ai" || len(ai.Asked()) != 1 {
		t.Errorf("asked: %+v, %d requests", c, len(ai.Asked()))
	}

	put(t, dir, "answers.json", `{"summary": {"text": "It's 5% off"}, "nobody": {}}`)
	p, stderr := previewOf(t, env, exitOK, quoteID, "--answers", filepath.Join(dir, "answers.json"))
	if d := step(t, p, "note"); d.SQL == nil || len(d.SQL.Args) != 2 || *d.SQL.Args[0] != "42" || *d.SQL.Args[1] != "It's 5% off" || len(d.WaitsFor) > 0 {
		t.Errorf("with an answer: %+v", d)
	}
	if stderr != "warning: an answer is given for nobody, which no step waits for\n" {
		t.Errorf("stderr: %s", stderr)
	}
	// What waits for it is skipped here: it is no answer to nobody all the same.
	put(t, dir, "one.json", `{"summary": {"text": "x"}}`)
	none := map[string]string{"DATABASE_URL": env["DATABASE_URL"], "OUTBOX_ROUTES": filepath.Join(dir, "skips.yaml")}
	put(t, dir, "skips.yaml", skipsAll)
	p, stderr = previewOf(t, none, exitOK, quoteID, "--answers", filepath.Join(dir, "one.json"))
	if d := step(t, p, "hook"); d.State != "skipped" || stderr != "" {
		t.Errorf("skipped: %+v, stderr %s", d, stderr)
	}

	for _, tt := range []struct{ now, state, at string }{
		{"2026-12-01T00:00:00Z", "scheduled", "2026-12-09T17:00:00Z"},
		{"2026-12-09T17:30:00Z", "ready", ""},
		{"2026-12-09T13:00:01-05:00", "expired", ""},
	} {
		p, _ := previewOf(t, env, exitOK, quoteID, "--now", tt.now)
		d := step(t, p, "reminder")
		at := ""
		if !d.At.IsZero() {
			at = d.At.Format(time.RFC3339)
		}
		if string(d.State) != tt.state || at != tt.at {
			t.Errorf("at %s: %s, %s", tt.now, d.State, at)
		}
	}

	staging := maps.Clone(env)
	staging["OUTBOX_REDIRECT_SMS"] = "+15550100199"
	p, _ = previewOf(t, staging, exitOK, quoteID)
	if d := step(t, p, "text"); d.Recipient != "+12025550123" || d.RedirectedTo != "+15550100199" {
		t.Errorf("redirected: %+v", d)
	}
	if d := step(t, p, "reminder"); d.RedirectedTo != "" || !strings.Contains(d.Held, "is none of the recipients") {
		t.Errorf("held: %+v", d)
	}
	bare := map[string]string{"DATABASE_URL": env["DATABASE_URL"], "OUTBOX_ROUTES": env["OUTBOX_ROUTES"], "SITE_URL": "https://a.example"}
	p, _ = previewOf(t, bare, exitOK, quoteID)
	if d := step(t, p, "text"); d.State != "skipped" || d.Reason != "sms not configured" || d.SMS == nil {
		t.Errorf("not configured: %+v", d)
	}
	if d := step(t, p, "note"); d.State != "skipped" || !strings.Contains(d.Reason, "the step summary before it was not delivered") {
		t.Errorf("after one that is not configured: %+v", d)
	}
}

// TestPreviewGiven: events that are in no database.
func TestPreviewGiven(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "good.json", "\ufeff{\n  \"to\": \"+12025550123\", \"body\": \"hi\\u001b[31m there\"\n}\n")
	put(t, dir, "sms.json", `{"to": "+12025550123", "body": "hi"}`)
	put(t, dir, "bad.json", `{"to": "12025550123", "body": "hi"}`)
	put(t, dir, "log.json", `{"esc": "a\u202eb"}`)
	put(t, dir, "none.json", `{`)
	put(t, dir, "routes.yaml", `
version: 1
routes:
  - {name: plain, event: plain, deliver: [{name: told, log: {text: '{{.payload.text}}'}}]}
  - {name: asks, event: asks, lookup: {found: {sql: select 1 as one}}, deliver: [{name: told, log: {text: '{{.found.one}}'}}]}
`[1:])
	put(t, dir, "text.json", `{"text": "hello"}`)
	put(t, dir, "list.json", `[]`)
	routes := map[string]string{"OUTBOX_ROUTES": filepath.Join(dir, "routes.yaml")}
	for _, tt := range []struct {
		name, args     string
		env            map[string]string
		code           int
		stdout, stderr string
	}{
		{"direct", "--type sms.send --payload sms.json", nil, exitOK, "direct / sms: sms to +12025550123\n  state       skipped: sms not configured\n  length      1 segment, 2 units of GSM-7\n  body\n    | hi\n", ""},
		{"refused", "--type sms.send --payload bad.json", nil, exitFailures, `refused: sms.send: the key "to" has to be`, ""},
		{"refused by a character", "--type sms.send --payload good.json", nil, exitFailures, "control character", ""},
		{"nothing moves the cursor", "--type log.send --payload log.json", nil, exitOK, `"esc": "a\u202eb"`, ""},
		{"no route", "--type x --payload sms.json", nil, exitOK, `(no route)` + "\n" + `  state       skipped: no route for event type "x"`, ""},
		{"too large", "--type sms.send --payload sms.json", map[string]string{"OUTBOX_MAX_PAYLOAD_BYTES": "10"}, exitFailures, "payload of 33 bytes is larger than OUTBOX_MAX_PAYLOAD_BYTES=10", ""},
		{"a route that asks nothing", "--type plain --payload text.json", routes, exitOK, "\"text\": \"hello\"", ""},
		{"a route that asks", "--type asks --payload text.json", routes, exitCannot, "", "listener: the routes for this event ask the database, and DATABASE_URL is not set\n"},
		{"no JSON", "--type sms.send --payload none.json", nil, exitCannot, "", "none.json: it is not JSON: unexpected end of JSON input"},
		{"no file", "--type sms.send --payload nowhere.json", nil, exitCannot, "", "nowhere.json: no such file"},
		{"answers that are none", "--type sms.send --payload sms.json --answers list.json", nil, exitCannot, "", "list.json: it has to be an object that has answers by the names of steps"},
		{"an id needs a database", quoteID, nil, exitCannot, "", "DATABASE_URL is not set"},
		{"wrong routes", "--type x --payload sms.json", map[string]string{"OUTBOX_ROUTES": filepath.Join(dir, "sms.json")}, exitCannot, "", "sms.json:1:"},
		{"no event", "", nil, exitUsage, "", "an event is needed"},
		{"both", quoteID + " --type x --payload sms.json", nil, exitUsage, "", "leave out its id"},
		{"no payload", "--type x", nil, exitUsage, "", "--type goes with --payload"},
		{"no id", "42", nil, exitUsage, "", `"42" is no id of an event`},
		{"no time", "--type x --payload sms.json --now tomorrow", nil, exitUsage, "", "--now has to be a time such as"},
		{"stdin twice", "--type x --payload - --answers -", nil, exitUsage, "", "only one of"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"preview"}
			for _, arg := range strings.Fields(tt.args) {
				if strings.HasSuffix(arg, ".json") {
					arg = filepath.Join(dir, arg)
				}
				args = append(args, arg)
			}
			got := call(t, tt.env, args...)
			if got.code != tt.code || !strings.Contains(got.stdout, tt.stdout) || !strings.Contains(got.stderr, tt.stderr) || (tt.stdout == "") != (got.stdout == "") {
				t.Errorf("exit code %d, want %d\nstdout %s\nstderr %s", got.code, tt.code, got.stdout, got.stderr)
			}
			if strings.ContainsAny(got.stdout, "\x1b\u202e") {
				t.Errorf("what moves the cursor is printed: %q", got.stdout)
			}
		})
	}
}

func TestPreviewStdin(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "preview", "--type", "log.send", "--payload", "-", "--json", "--now", "2026-12-01T09:00:00Z")
	cmd.Env = append(os.Environ(), isListener+"=1")
	cmd.Dir = t.TempDir()
	cmd.Stdin = strings.NewReader(`{"n": 1.50}`)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	const want = `{
  "event": {
    "id": "00000000-0000-4000-8000-000000000001",
    "type": "log.send",
    "created_at": "2026-12-01T09:00:00Z"
  },
  "deliveries": [
    {
      "route": "direct",
      "step": "log",
      "channel": "log",
      "state": "ready",
      "content": {
        "n": 1.50
      }
    }
  ]
}
`
	if got := stdout.String(); got != want {
		t.Errorf("%s", got)
	}
}

// TestPreviewCannot: what only a database has wrong with it.
func TestPreviewCannot(t *testing.T) {
	t.Parallel()
	w, _, _ := quoteWorld(t)
	empty := pgtest.Empty(t)
	pgtest.Exec(t, w.db, fmt.Sprintf(`insert into outbox_events (id, type, payload) values
		('00000000-0000-4000-8000-0000000000a1', 'quote.sent', '{"quoteId": 42, "pad": %q}')`, strings.Repeat("x", 2000)))
	small := readOnly(w.env)
	small["OUTBOX_MAX_PAYLOAD_BYTES"] = "1000"
	if p, _ := previewOf(t, small, exitFailures, "00000000-0000-4000-8000-0000000000a1"); !strings.Contains(p.Deliveries[0].Reason, "is larger than OUTBOX_MAX_PAYLOAD_BYTES=1000") {
		t.Errorf("too large: %+v", p)
	}
	unmigrated := maps.Clone(w.env)
	unmigrated["DATABASE_URL"] = empty.URL
	for _, tt := range []struct {
		name, id string
		env      map[string]string
		want     string
	}{
		{"no such event", "00000000-0000-4000-8000-0000000000a2", w.env, "there is no event 00000000-0000-4000-8000-0000000000a2 in the database"},
		{"no schema", quoteID, unmigrated, "run `listener migrate`"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := call(t, tt.env, "preview", tt.id); got.code != exitCannot || got.stdout != "" || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
			}
		})
	}
	pgtest.Exec(t, w.db, `alter table quotes rename to offers`)
	if got := call(t, w.env, "preview", quoteID); got.code != exitCannot || !strings.Contains(got.stderr, `lookup quote`) || !strings.Contains(got.stderr, `relation "quotes" does not exist`) {
		t.Errorf("a lookup that fails: %d: %s", got.code, got.stderr)
	}
}
