package main

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// copyRoutes ask a model for an SMS and a subject, and wait for it for a second.
const copyRoutes = `version: 1
routes:
  - name: quote
    event: quote.sent
    copy:
      instructions: Friendly and brief.
      budget: 1s
      facts: {name: '{{.payload.name}}', link: '{{.payload.link}}'}
      fields:
        sms: {max_chars: 240, must_contain: ['{{.payload.link}}'], template: 'Template: {{.payload.link}}'}
        subject: {max_chars: 120, template: 'Template for {{.payload.name}}'}
    deliver:
      - name: text
        on_uncertain: resend   # a 503 of Twilio's says nothing
        sms: {to: '{{.payload.phone}}', body: '{{.copy.sms}}'}
      - name: mail
        email: {to: ann@example.com, subject: '{{.copy.subject}}', text: '{{.payload.link}}'}
`

// TestCopyByAModel: whatever the model does, the SMS leaves within the budget, with
// its words or the template's; the ledger says which and why. An SMS that the
// provider did not take is sent again with the same words, and nobody is asked
// twice.
func TestCopyByAModel(t *testing.T) {
	t.Parallel()
	const budget = time.Second
	slow := standin.OpenAIAlways(standin.OpenAIReply{Drip: 30 * time.Second})
	for _, tt := range []struct {
		name   string
		script standin.OpenAIScript
		sms    string // what the SMS's record says of its words; a pattern
		mail   string
		tries  int // requests to the model
	}{
		{"good", standin.OpenAIGood, `sms: ai`, `subject: ai`, 1},
		{"too long", standin.OpenAITooLong, `sms: fallback \(too long \(\d+ characters, at most 240\)\)`, `subject: fallback \(too long \(\d+ characters, at most 120\)\)`, 1},
		{"without the link", standin.OpenAIWithoutLink, `sms: fallback \(must_contain 1 is missing\)`, `subject: ai`, 1},
		{"a foreign link", standin.OpenAIForeignLink, `sms: fallback \(foreign link\)`, `subject: fallback \(foreign link\)`, 1},
		{"a refusal", standin.OpenAIRefusal, `sms: fallback \(refus`, `subject: fallback \(refus`, 1},
		{"broken JSON, twice", standin.OpenAIBrokenJSON, `sms: fallback \(`, `subject: fallback \(`, 2},
		{"broken JSON, then good", standin.OpenAIFirst(standin.OpenAIBrokenJSON, standin.OpenAIGood), `sms: ai`, `subject: ai`, 2},
		{"silent", standin.OpenAISilent, `sms: fallback \(`, `subject: fallback \(`, 1},
		{"after 30 s", slow, `sms: fallback \(`, `subject: fallback \(`, 1},
		{"429", standin.OpenAIRateLimited(30), `sms: fallback \(`, `subject: fallback \(`, 1},
		{"no quota", standin.OpenAINoQuota, `sms: fallback \(.*quota`, `subject: fallback \(.*quota`, 1},
		{"no key", nil, ``, ``, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			model, err := standin.NewOpenAI("sk-standin")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = model.Close() })
			file := filepath.Join(t.TempDir(), "routes.yaml")
			if err := os.WriteFile(file, []byte(copyRoutes), 0o600); err != nil {
				t.Fatal(err)
			}
			env := maps.Clone(w.env)
			maps.Copy(env, map[string]string{"OUTBOX_ROUTES": file, "OPENAI_BASE_URL": model.URL(), "OPENAI_API_KEY": "sk-standin"})
			if tt.script == nil {
				delete(env, "OPENAI_API_KEY")
			} else {
				model.Script(tt.script)
			}
			var bodies []string
			var asked time.Time
			w.twilio.Script(func(n int, r *http.Request) standin.TwilioReply {
				bodies = append(bodies, r.PostForm.Get("Body"))
				if n == 1 {
					asked = time.Now()
					return standin.TwilioReply{Status: http.StatusServiceUnavailable}
				}
				return standin.TwilioReply{}
			})
			insert(t, w.db, 1, "quote.sent", `{"name": "Ann", "link": "https://myst.test/quote/1", "phone": "+12025550123"}`)
			begun := time.Now()
			if got := call(t, env, "--once"); got.code != exitFailures {
				t.Fatalf("exit code %d, %s%s", got.code, got.stdout, got.stderr)
			}
			// The rest of it is done in milliseconds; a slow machine has some seconds.
			if tt.script != nil && len(model.Asked()) > 0 {
				begun = model.Asked()[0].At
			}
			if took := asked.Sub(begun); took > budget+4*time.Second {
				t.Errorf("the SMS left after %s", took)
			}
			requests, _ := model.Requests()
			if requests != tt.tries {
				t.Errorf("the model was asked %d times, want %d", requests, tt.tries)
			}

			// The provider takes the second attempt: same words, and nobody is asked.
			pgtest.Exec(t, w.db, `update outbox.deliveries set due_at = now() where state in ('retry', 'uncertain')`)
			if got := call(t, env, "--once"); got.code != exitOK {
				t.Fatalf("exit code %d, %s%s", got.code, got.stdout, got.stderr)
			}
			if after, _ := model.Requests(); after != requests {
				t.Errorf("the retry asked the model %d times", after-requests)
			}
			if len(bodies) != 2 || bodies[0] != bodies[1] {
				t.Fatalf("sent %q", bodies)
			}
			for step, want := range map[string]string{"text": tt.sms, "mail": tt.mail} {
				got := pgtest.QueryVal[string](t, w.db, `select coalesce(copy, '') from outbox.deliveries where step = $1 and state = 'delivered'`, step)
				if !regexp.MustCompile("^"+want).MatchString(got) || strings.Contains(got, "evil") {
					t.Errorf("%s: copy %q, want %s", step, got, want)
				}
			}
			if template := bodies[0] == "Template: https://myst.test/quote/1"; template == strings.HasPrefix(tt.sms, "sms: ai") {
				t.Errorf("the SMS is %q, and its copy %s", bodies[0], tt.sms)
			}
			if !strings.Contains(bodies[0], "https://myst.test/quote/1") || strings.Contains(bodies[0], "evil") {
				t.Errorf("the SMS is %q", bodies[0])
			}
			mails := (&mystos{world: w}).mails(t)
			if len(mails) != 1 || (mails[0].subject == "Template for Ann") == strings.HasPrefix(tt.mail, "subject: ai") {
				t.Errorf("mails: %+v", mails)
			}
			if tt.script != nil {
				for _, r := range model.Asked() {
					if strings.Contains(string(r.Body), "+12025550123") {
						t.Error("the model was told the phone number, which is no fact")
					}
				}
			}
		})
	}
}
