package standin

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// It has to refuse what the real one refuses, or a test against it shows nothing.
func TestOpenAIRefuses(t *testing.T) {
	server, err := NewOpenAI("sk-1")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	const messages = `"messages":[{"role":"system","content":"Answer in JSON."},{"role":"user","content":"Hi"}]`
	format := func(schema string) string {
		return `{"model":"gpt-5-mini",` + messages + `,"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":` + schema + `}}}`
	}
	for _, tt := range []struct {
		name   string
		body   string
		status int
		want   string // a part of the answer
	}{
		{"a plain one", `{"model":"gpt-5-mini",` + messages + `}`, 200, `"finish_reason":"stop"`},
		{"a strict schema", format(`{"type":"object","properties":{"a":{"type":["string","null"]}},"required":["a"],"additionalProperties":false}`), 200, `{\"a\":\"Written by a model: a\"}`},
		{"a key that is not required", format(`{"type":"object","properties":{"a":{"type":"string"}},"required":[],"additionalProperties":false}`), 400, "Missing 'a'"},
		{"other keys allowed", format(`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`), 400, "additionalProperties"},
		{"a temperature", `{"model":"gpt-5-mini","temperature":0.7,` + messages + `}`, 400, "unsupported_value"},
		{"a temperature where it is known", `{"model":"gpt-4o-mini","temperature":0.7,` + messages + `}`, 200, ""},
		{"max_tokens", `{"model":"o4-mini","max_tokens":7,` + messages + `}`, 400, "max_completion_tokens"},
		{"an effort without reasoning", `{"model":"gpt-4o-mini","reasoning_effort":"low",` + messages + `}`, 400, "reasoning_effort"},
		{"an unknown parameter", `{"model":"gpt-5-mini","best":1,` + messages + `}`, 400, "Unrecognized"},
		{"an unknown model", `{"model":"llama","messages":[]}`, 404, "model_not_found"},
		{"no messages", `{"model":"gpt-5-mini","messages":[]}`, 400, "empty array"},
		{"JSON that nobody asked for", `{"model":"gpt-5-mini","messages":[{"role":"user","content":"Hi"}],"response_format":{"type":"json_object"}}`, 400, "must contain the word"},
		{"no JSON", `{`, 400, "could not parse"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL()+"/chat/completions", strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer sk-1")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != tt.status || !strings.Contains(string(body), tt.want) {
				t.Errorf("answered %d %s, want %d with %s", res.StatusCode, body, tt.status, tt.want)
			}
		})
	}
	if all, refused := server.Requests(); all != 13 || refused != 10 || len(server.Asked()) != 3 {
		t.Errorf("%d requests, %d refused, %d answered", all, refused, len(server.Asked()))
	}
}
