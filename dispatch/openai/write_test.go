package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/standin"
)

const (
	key    = "sk-canary-key-77"
	canary = "Zyx-canary-fact"
	pay    = "https://example.com/quote/a_B-9?x=1&y=2"
)

func start(t *testing.T) *standin.OpenAI {
	t.Helper()
	server, err := standin.NewOpenAI(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server
}

func client(t *testing.T, url string, with func(*Config)) *Client {
	t.Helper()
	c := Config{Key: key, BaseURL: url}
	if with != nil {
		with(&c)
	}
	client, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.http.CloseIdleConnections)
	return client
}

// quote asks for what a route would: an SMS and a subject.
func quote() Ask {
	return Ask{
		Instructions: "Friendly and short.",
		Facts:        []Fact{{"name", canary}, {"total", "$1,200.00"}, {"link", pay}},
		Fields: []Field{
			{Name: "sms", Describe: "An SMS.", MaxChars: 320, MaxSegments: 3, MustContain: []string{pay, "$1,200.00"}, MustNot: []string{"free"}},
			{Name: "subject", MaxChars: 120, SingleLine: true},
		},
	}
}

// grace is how much later than promised a call may return on a machine that is
// busy with other tests.
const grace = 400 * time.Millisecond

func TestWrite(t *testing.T) {
	t.Parallel()
	const used = "" // the model's words are
	for _, tt := range []struct {
		name     string
		script   standin.OpenAIScript
		sms      string // the fallbacks
		subject  string
		requests int
		from, to time.Duration // how long it takes, with a budget of 1.5 s
	}{
		{"good", standin.OpenAIGood, used, used, 1, 0, 0},
		{"too long", standin.OpenAITooLong, "too long (2073 characters, at most 320)", "too long (2027 characters, at most 120)", 1, 0, 0},
		{"without the link", standin.OpenAIWithoutLink, "must_contain 1 is missing", used, 1, 0, 0},
		{"foreign link", standin.OpenAIForeignLink, "foreign link", "foreign link", 1, 0, 0},
		{"refusal", standin.OpenAIRefusal, "refused", "refused", 1, 0, 0},
		{"broken JSON", standin.OpenAIBrokenJSON, "broken answer", "broken answer", 2, 0, 0},
		{"broken JSON once", standin.OpenAIFirst(standin.OpenAIBrokenJSON, standin.OpenAIGood), used, used, 2, 0, 0},
		{"cut off", standin.OpenAICutOff, "cut off", "cut off", 1, 0, 0},
		{"content filter", standin.OpenAIFiltered, "filtered", "filtered", 1, 0, 0},
		{"no choices", standin.OpenAINoChoices, "broken answer", "broken answer", 2, 0, 0},
		{"silence", standin.OpenAISilent, "timed out", "timed out", 1, 1500 * time.Millisecond, 1500 * time.Millisecond},
		{"a body that drips", standin.OpenAIDrip, "timed out", "timed out", 1, 1500 * time.Millisecond, 1500 * time.Millisecond},
		{"rate limited for a second", standin.OpenAIFirst(standin.OpenAIRateLimited(1), standin.OpenAIGood), used, used, 2, time.Second, time.Second},
		{"rate limited for longer", standin.OpenAIRateLimited(20), "rate limited", "rate limited", 1, 0, 0},
		{"rate limited, then silent", standin.OpenAIFirst(standin.OpenAIRateLimited(1), standin.OpenAISilent), "timed out", "timed out", 2, 1500 * time.Millisecond, 1500 * time.Millisecond},
		{"no quota", standin.OpenAINoQuota, "no quota", "no quota", 1, 0, 0},
		{"server error", standin.OpenAIServerError, "server error (500)", "server error (500)", 2, shortPause, shortPause},
		{"server error once", standin.OpenAIFirst(standin.OpenAIServerError, standin.OpenAIGood), used, used, 2, shortPause, shortPause},
		{"a gateway's page", standin.OpenAIBadGateway, "server error (502)", "server error (502)", 2, shortPause, shortPause},
		{"an older server", standin.OpenAIOld, used, used, 2, 0, 0},
		{"a field left out", standin.OpenAIAlways(standin.OpenAIReply{Content: `{"subject": "Your quote"}`}), "empty", used, 1, 0, 0},
		{"a field that is null", standin.OpenAIAlways(standin.OpenAIReply{Content: `{"sms": null, "subject": "Your quote"}`}), "empty", used, 1, 0, 0},
		{"a field that is a number", standin.OpenAIAlways(standin.OpenAIReply{Content: `{"sms": 7, "subject": "x"}`}), "broken answer", "broken answer", 2, 0, 0},
		{"an array", standin.OpenAIAlways(standin.OpenAIReply{Content: `["x"]`}), "broken answer", "broken answer", 2, 0, 0},
		{"null", standin.OpenAIAlways(standin.OpenAIReply{Content: `null`}), "broken answer", "broken answer", 2, 0, 0},
		{"a page of HTML", standin.OpenAIAlways(standin.OpenAIReply{Body: "<html>" + canary}), "broken answer", "broken answer", 2, 0, 0},
		{"65 KiB", standin.OpenAIAlways(standin.OpenAIReply{Content: `{"sms": "` + strings.Repeat("x", 65<<10) + `"}`}), "too large an answer", "too large an answer", 1, 0, 0},
		{"a megabyte", standin.OpenAIAlways(standin.OpenAIReply{Body: strings.Repeat(" ", 1<<20)}), "too large an answer", "too large an answer", 1, 0, 0},
		{"hung up", standin.OpenAIAlways(standin.OpenAIReply{CutBefore: true}), "connection lost", "connection lost", 2, shortPause, shortPause},
		{"a redirect", standin.OpenAIAlways(standin.OpenAIReply{Status: 307, Header: http.Header{"Location": {"https://evil.example"}}}), "redirected (307)", "redirected (307)", 1, 0, 0},
		{"an error in words", standin.OpenAIAlways(standin.OpenAIReply{Status: 403, Body: `{"error": "` + canary + `"}`}), "key refused (403)", "key refused (403)", 1, 0, 0},
		{"too many facts", standin.OpenAIAlways(standin.OpenAIReply{Status: 400, Code: "context_length_exceeded"}), "too much to read", "too much to read", 1, 0, 0},
		{"the request is refused", standin.OpenAIAlways(standin.OpenAIReply{Status: 400}), "request refused (400)", "request refused (400)", 2, 0, 0},
		{"too large a request", standin.OpenAIAlways(standin.OpenAIReply{Status: 413}), "request refused (413)", "request refused (413)", 1, 0, 0},
		{"payment required", standin.OpenAIAlways(standin.OpenAIReply{Status: 402}), "no quota", "no quota", 1, 0, 0},
		{"a line break in the subject", standin.OpenAIAlways(standin.OpenAIReply{Content: encode(map[string]string{"sms": "$1,200.00 " + pay, "subject": "a\r\nBcc: x@example.com"})}), used, "line break", 1, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			server.Script(tt.script)
			a := quote()
			a.Budget = 1500 * time.Millisecond
			began := time.Now()
			words := client(t, server.URL(), nil).Write(t.Context(), a)
			took := time.Since(began)

			if took < tt.from || took > tt.to+grace {
				t.Errorf("took %s, want %s to %s", took, tt.from, tt.to)
			}
			if all, refused := server.Requests(); all != tt.requests || refused != 0 {
				t.Errorf("%d requests, of which %d were invalid; want %d and none", all, refused, tt.requests)
			}
			for name, want := range map[string]string{"sms": tt.sms, "subject": tt.subject} {
				w := words[name]
				if w.Fallback != want {
					t.Errorf("%s: fallback %q, want %q", name, w.Fallback, want)
				}
				if (w.Text == "") != (w.Fallback != "") {
					t.Errorf("%s: text %q with fallback %q", name, w.Text, w.Fallback)
				}
				leaks(t, w.Fallback)
			}
		})
	}
}

func leaks(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{key, "canary", "example.com", "$1,200"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q has %q in it", text, secret)
		}
	}
}

// What is sent, to models of both sorts, and nothing else.
func TestRequest(t *testing.T) {
	t.Parallel()
	server := start(t)
	for _, tt := range []struct {
		model  string
		effort any // as it is sent; nil: not at all
	}{
		{"gpt-5-mini", "low"},
		{"gpt-5", "low"},
		{"gpt-5.1-chat-latest", nil},
		{"gpt-5-pro", nil},
		{"o4-mini", "low"},
		{"gpt-6-luna", "low"},
		{"gpt-4o-mini", nil},
		{"gpt-4.1", nil},
	} {
		t.Run(tt.model, func(t *testing.T) {
			server.Script(nil)
			a := quote()
			a.Model = tt.model
			for name, w := range client(t, server.URL(), func(c *Config) { c.UserAgent = "outbox-listener/7" }).Write(t.Context(), a) {
				if w.Fallback != "" {
					t.Errorf("%s: %s", name, w.Fallback)
				}
			}
			asked := server.Asked()
			if len(asked) != 1 {
				t.Fatalf("asked %d times", len(asked))
			}
			r := asked[0]
			var body map[string]any
			if err := json.Unmarshal(r.Body, &body); err != nil {
				t.Fatal(err)
			}
			if body["reasoning_effort"] != tt.effort {
				t.Errorf("effort %v, want %v", body["reasoning_effort"], tt.effort)
			}
			for _, never := range []string{"temperature", "max_tokens", "top_p", "n", "tools", "user"} {
				if _, sent := body[never]; sent {
					t.Errorf("sent %s", never)
				}
			}
			if fmt.Sprint(r.Fields) != "[sms subject]" {
				t.Errorf("fields %v", r.Fields)
			}
			if r.Header.Get("User-Agent") != "outbox-listener/7" {
				t.Errorf("User-Agent %q", r.Header.Get("User-Agent"))
			}
			// What comes from the event is data, and a link looks like a link.
			for _, fact := range []string{canary, pay, "$1,200.00"} {
				if !strings.Contains(r.User, fact) {
					t.Errorf("the user message lacks %q: %s", fact, r.User)
				}
				if strings.Contains(r.System, fact) || strings.Contains(string(r.Schema), fact) {
					t.Errorf("%q is among the instructions", fact)
				}
			}
			if !json.Valid([]byte(r.User)) || !strings.Contains(r.System, "Friendly and short.") {
				t.Errorf("messages %q, %q", r.System, r.User)
			}
			for _, limit := range []string{"320 characters", "3 segments", "One line", "free"} {
				if !strings.Contains(string(r.Schema), limit) {
					t.Errorf("the schema does not say %q: %s", limit, r.Schema)
				}
			}
		})
	}
}

// A server that has once refused what it does not know is not asked for it
// again.
func TestOlderServerIsRemembered(t *testing.T) {
	t.Parallel()
	server := start(t)
	server.Script(standin.OpenAIOld)
	c := client(t, server.URL(), nil)
	for n := 1; n <= 3; n++ {
		if w := c.Write(t.Context(), quote())["sms"]; w.Fallback != "" {
			t.Fatalf("write %d: %s", n, w.Fallback)
		}
		if all, _ := server.Requests(); all != n+1 {
			t.Errorf("%d requests for %d writes", all, n)
		}
	}
}

func TestWrongKey(t *testing.T) {
	t.Parallel()
	server := start(t)
	c := client(t, server.URL(), func(c *Config) { c.Key = "sk-other" })
	if w := c.Write(t.Context(), quote())["sms"]; w.Fallback != "key refused (401)" {
		t.Errorf("fallback %q", w.Fallback)
	}
	if all, _ := server.Requests(); all != 1 {
		t.Errorf("%d requests", all)
	}
}

func TestNotConfigured(t *testing.T) {
	t.Parallel()
	var c *Client
	words := c.Write(t.Context(), quote())
	if len(words) != 2 || words["sms"].Fallback != "not configured" || words["subject"].Fallback != "not configured" {
		t.Errorf("words %v", words)
	}
}

func TestNothingAsked(t *testing.T) {
	t.Parallel()
	server := start(t)
	if words := client(t, server.URL(), nil).Write(t.Context(), Ask{}); len(words) != 0 {
		t.Errorf("words %v", words)
	}
	if all, _ := server.Requests(); all != 0 {
		t.Errorf("%d requests", all)
	}
}

func TestNothingListens(t *testing.T) {
	t.Parallel()
	server := start(t)
	server.Close()
	began := time.Now()
	if w := client(t, server.URL(), nil).Write(t.Context(), quote())["sms"]; w.Fallback != "not reachable" {
		t.Errorf("fallback %q", w.Fallback)
	}
	if took := time.Since(began); took < shortPause || took > shortPause+grace {
		t.Errorf("took %s: not one try more", took)
	}
}

func TestModelOfOld(t *testing.T) {
	t.Parallel()
	server := start(t)
	a := quote()
	a.Model = "text-davinci-003"
	if w := client(t, server.URL(), nil).Write(t.Context(), a)["sms"]; w.Fallback != "not a model for this" {
		t.Errorf("fallback %q", w.Fallback)
	}
}

// The caller's own end is obeyed too, and says nothing about the server.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	server := start(t)
	server.Script(standin.OpenAISilent)
	c := client(t, server.URL(), nil)
	for range circuitFailures + 1 {
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(20*time.Millisecond, cancel)
		if w := c.Write(ctx, quote())["sms"]; w.Fallback != "interrupted" {
			t.Fatalf("fallback %q", w.Fallback)
		}
		timer.Stop()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if w := c.Write(ctx, quote())["sms"]; w.Fallback != "interrupted" {
		t.Errorf("fallback %q", w.Fallback)
	}
	if all, _ := server.Requests(); all != circuitFailures+1 {
		t.Errorf("%d requests", all)
	}
}

// transport answers without a network, so that a bubble's clock can run.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func canned(status int, body string) *http.Response {
	rec := httptest.NewRecorder()
	rec.WriteHeader(status)
	_, _ = io.WriteString(rec, body)
	return rec.Result()
}

const cannedAnswer = `{"choices":[{"finish_reason":"stop","message":{"content":"{\"sms\":\"Hi\"}"}}]}`

// By the clock of a bubble the budget is kept exactly, and an outage costs five
// budgets and then nothing but a try each half minute.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, requests := false, 0
		c := client(t, "https://api.example/v1", func(c *Config) {
			c.HTTPClient = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
				requests++
				if up {
					return canned(200, cannedAnswer), nil
				}
				<-r.Context().Done()
				return nil, r.Context().Err()
			})}
		})
		a := Ask{Fields: []Field{{Name: "sms"}}}
		write := func(want string, in time.Duration, asked int) {
			t.Helper()
			began, before := time.Now(), requests
			w := c.Write(t.Context(), a)["sms"]
			if took := time.Since(began); w.Fallback != want || took != in || requests-before != asked {
				t.Errorf("fallback %q in %s with %d requests; want %q in %s with %d", w.Fallback, took, requests-before, want, in, asked)
			}
		}
		for range circuitFailures {
			write("timed out", DefaultBudget, 1)
		}
		write("openai is failing", 0, 0)
		time.Sleep(circuitPause - time.Second)
		write("openai is failing", 0, 0)
		time.Sleep(2 * time.Second)
		write("timed out", DefaultBudget, 1)
		write("openai is failing", 0, 0)
		time.Sleep(circuitPause + time.Second)
		up = true
		write("", 0, 1)
		up = false
		write("timed out", DefaultBudget, 1) // it takes five again
		write("timed out", DefaultBudget, 1)
	})
}

// While one message tries, the others do not wait for it.
func TestOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		requests := 0
		c := client(t, "https://api.example/v1", func(c *Config) {
			c.HTTPClient = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
				mu.Lock()
				requests++
				mu.Unlock()
				<-r.Context().Done()
				return nil, r.Context().Err()
			})}
		})
		a := Ask{Fields: []Field{{Name: "sms"}}}
		for range circuitFailures {
			c.Write(t.Context(), a)
		}
		time.Sleep(circuitPause + time.Second)
		requests = 0
		got := map[string]int{}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				w := c.Write(t.Context(), a)["sms"]
				mu.Lock()
				defer mu.Unlock()
				got[w.Fallback]++
			})
		}
		wg.Wait()
		if requests != 1 || got["timed out"] != 1 || got["openai is failing"] != 19 {
			t.Errorf("%d requests, %v", requests, got)
		}
	})
}

// Only what says that the server fails opens the circuit.
func TestWhatCounts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		script standin.OpenAIScript
		opens  bool
	}{
		{"no quota", standin.OpenAINoQuota, true},
		{"server error", standin.OpenAIServerError, true},
		{"rate limit", standin.OpenAIRateLimited(20), false},
		{"refusal", standin.OpenAIRefusal, false},
		{"broken", standin.OpenAIBrokenJSON, false},
		{"request refused", standin.OpenAIAlways(standin.OpenAIReply{Status: 400}), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			server.Script(tt.script)
			c := client(t, server.URL(), nil)
			for range circuitFailures {
				if w := c.Write(t.Context(), quote())["sms"]; w.Fallback == "openai is failing" {
					t.Fatal("opened too soon")
				}
			}
			if w := c.Write(t.Context(), quote())["sms"]; (w.Fallback == "openai is failing") != tt.opens {
				t.Errorf("after %d failures: %q", circuitFailures, w.Fallback)
			}
		})
	}
}

// Whatever a transport does, there are words or reasons.
func TestTransportPanics(t *testing.T) {
	t.Parallel()
	c := client(t, "https://api.example/v1", func(c *Config) {
		c.HTTPClient = &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) { panic(canary) })}
	})
	if w := c.Write(t.Context(), quote())["sms"]; w.Fallback != "broken answer" {
		t.Errorf("fallback %q", w.Fallback)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		with  func(*Config)
		wrong string // what the error names; "" for none
	}{
		{"a key alone", func(*Config) {}, ""},
		{"a server of one's own", func(c *Config) { c.BaseURL, c.Model = "http://127.0.0.1:11434/v1/", "llama3.2:3b" }, ""},
		{"no key", func(c *Config) { c.Key = "" }, "OPENAI_API_KEY"},
		{"a key with a line end", func(c *Config) { c.Key += "\n" }, "OPENAI_API_KEY"},
		{"a sentence for a model", func(c *Config) { c.Model = "the best" }, "OPENAI_MODEL"},
		{"no URL", func(c *Config) { c.BaseURL = "localhost:11434" }, "OPENAI_BASE_URL"},
		{"credentials in the URL", func(c *Config) { c.BaseURL = "https://u:" + key + "@x.example/v1" }, "OPENAI_BASE_URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Key: key}
			tt.with(&c)
			_, err := New(c)
			if tt.wrong == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wrong) || strings.Contains(err.Error(), "canary") {
				t.Errorf("New = %v, want an error that names %s", err, tt.wrong)
			}
		})
	}
}

var errCanary = errors.New("dial " + key + " " + canary)

func TestNothingOfTheTransportGetsOut(t *testing.T) {
	t.Parallel()
	c := client(t, "https://api.example/v1", func(c *Config) {
		c.HTTPClient = &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) { return nil, errCanary })}
	})
	for _, w := range c.Write(t.Context(), quote()) {
		leaks(t, w.Fallback)
	}
}
