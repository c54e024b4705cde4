package openai

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/sendertest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

func prompt(p dispatch.Prompt) *dispatch.Delivery {
	return sendertest.NewDelivery(dispatch.ChannelOpenAI, "", p)
}

func summary() *dispatch.Delivery {
	return prompt(dispatch.Prompt{Instructions: "Sum it up.", Input: canary})
}

func TestSuite(t *testing.T) {
	server := start(t)
	script := func(s standin.OpenAIScript) func() { return func() { server.Script(s) } }
	status := func(status int, code string, header ...string) func() {
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return script(standin.OpenAIAlways(standin.OpenAIReply{Status: status, Code: code, Header: h}))
	}
	short := prompt(dispatch.Prompt{Instructions: "Sum it up.", Fields: map[string]int{"summary": 5}})
	own := prompt(dispatch.Prompt{Instructions: "Sum it up.", Model: "llama"})
	sendertest.Run(t, sendertest.Suite{
		Channel:  dispatch.ChannelOpenAI,
		New:      func(t *testing.T) dispatch.Sender { return client(t, server.URL(), nil) },
		Delivery: summary,
		Accept:   script(nil),
		Hang:     script(standin.OpenAISilent),
		Flood:    script(standin.OpenAIAlways(standin.OpenAIReply{Body: strings.Repeat(" ", 64<<20)})),
		Secrets:  []string{key, canary},
		Cases: []sendertest.Case{
			{Name: "answered", Prepare: script(standin.OpenAIGood), Status: 200},
			{Name: "an older server", Prepare: script(standin.OpenAIOld), Status: 200},
			{Name: "rate limited", Prepare: script(standin.OpenAIRateLimited(30)), Kind: dispatch.Throttled, Status: 429, Code: "rate_limit_exceeded", RetryAfter: 30 * time.Second},
			{Name: "no quota", Prepare: script(standin.OpenAINoQuota), Kind: dispatch.Down, Status: 429, Code: "insufficient_quota"},
			{Name: "payment required", Prepare: status(402, ""), Kind: dispatch.Down, Status: 402},
			{Name: "bad request", Prepare: status(400, canary), Kind: dispatch.Rejected, Status: 400},
			{Name: "too much", Prepare: status(400, "context_length_exceeded"), Kind: dispatch.Rejected, Status: 400, Code: "context_length_exceeded"},
			{Name: "wrong key", Prepare: status(401, "invalid_api_key"), Kind: dispatch.Down, Status: 401, Code: "invalid_api_key"},
			{Name: "not allowed", Prepare: status(403, ""), Kind: dispatch.Down, Status: 403},
			{Name: "the configured model is unknown", Prepare: status(404, "model_not_found"), Kind: dispatch.Down, Status: 404},
			{Name: "the prompt's model is unknown", Prepare: script(nil), Delivery: own, Kind: dispatch.Rejected, Status: 404, Code: "model_not_found"},
			{Name: "server error", Prepare: script(standin.OpenAIServerError), Kind: dispatch.Down, Status: 500},
			{Name: "overloaded", Prepare: status(503, "", "Retry-After", "7"), Kind: dispatch.Down, Status: 503, RetryAfter: 7 * time.Second},
			{Name: "a gateway gave up", Prepare: status(504, ""), Kind: dispatch.Unknown, Status: 504},
			{Name: "a page", Prepare: script(standin.OpenAIBadGateway), Kind: dispatch.Down, Status: 502},
			{Name: "redirect", Prepare: status(302, "", "Location", "https://evil.example"), Kind: dispatch.Down, Status: 302},
			{Name: "hung up", Prepare: script(standin.OpenAIAlways(standin.OpenAIReply{CutBefore: true})), Kind: dispatch.Unknown},
			{Name: "refused", Prepare: script(standin.OpenAIRefusal), Kind: dispatch.Rejected, Status: 200},
			{Name: "filtered", Prepare: script(standin.OpenAIFiltered), Kind: dispatch.Rejected, Status: 200},
			{Name: "cut off", Prepare: script(standin.OpenAICutOff), Kind: dispatch.Rejected, Status: 200},
			{Name: "broken", Prepare: script(standin.OpenAIBrokenJSON), Kind: dispatch.Down, Status: 200},
			{Name: "no choices", Prepare: script(standin.OpenAINoChoices), Kind: dispatch.Down, Status: 200},
			{Name: "too long", Prepare: script(standin.OpenAITooLong), Delivery: short, Kind: dispatch.Down, Status: 200},
			{Name: "an error that repeats everything", Prepare: script(standin.OpenAIAlways(standin.OpenAIReply{
				Status: 400, Body: `{"error":{"code":"` + key + `","type":"` + canary + `","message":"` + key + `"}}`,
			})), Kind: dispatch.Rejected, Status: 400},
		},
	})
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	server := start(t)
	for _, tt := range []struct {
		name   string
		fields map[string]int
		want   string // the keys of the answer
	}{
		{"one text", nil, "text"},
		{"several", map[string]int{"summary": 200, "mood": 0}, "mood summary"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := dispatch.Prompt{Instructions: "Sum it up.", Input: "See https://example.com. " + canary, Fields: tt.fields}
			r, err := client(t, server.URL(), nil).Send(t.Context(), prompt(p))
			if err != nil {
				t.Fatal(err)
			}
			var answer map[string]string
			if err := json.Unmarshal(r.Answer, &answer); err != nil {
				t.Fatal(err)
			}
			for _, name := range strings.Fields(tt.want) {
				if answer[name] == "" {
					t.Errorf("the answer has no %s: %s", name, r.Answer)
				}
			}
			if len(answer) != len(strings.Fields(tt.want)) || !strings.HasPrefix(r.ProviderID, "chatcmpl-") {
				t.Errorf("receipt %+v", r)
			}
			asked := server.Asked()
			last := asked[len(asked)-1]
			if last.User != p.Input || strings.Contains(last.System, canary) || last.Model != DefaultModel {
				t.Errorf("asked %q, %q of %s", last.System, last.User, last.Model)
			}
		})
	}
}

func TestSendNotConfigured(t *testing.T) {
	t.Parallel()
	var c *Client
	_, err := c.Send(t.Context(), summary())
	if e, ok := errors.AsType[*dispatch.Error](err); !ok || e.Kind != dispatch.Down {
		t.Errorf("Send = %v, want down", err)
	}
}
