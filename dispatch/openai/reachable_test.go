package openai

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

func TestCheckOfServer(t *testing.T) {
	server := start(t)
	gone := httptest.NewServer(nil)
	gone.Close()
	answers := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			w.Write([]byte(body))
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	for _, tt := range []struct {
		name, url string
		with      func(*Config)
		want      string // "": none
	}{
		{"good", server.URL(), nil, ""},
		{"a wrong key", server.URL(), func(c *Config) { c.Key = dispatch.Secret(key + "x") }, "OPENAI_API_KEY: key refused (401)"},
		{"a model that is not there", server.URL(), func(c *Config) { c.Model = "gpt-17" }, `OPENAI_MODEL: the server does not list a model "gpt-17"`},
		{"without the version", strings.TrimSuffix(server.URL(), "/v1"), nil, "OPENAI_BASE_URL: there is no list of models at this address (404)"},
		{"nobody there", gone.URL, nil, "OPENAI_BASE_URL: GET " + strings.TrimPrefix(gone.URL, "http://") + ": dial tcp"},
		{"no money", answers(429, `{"error": {"code": "insufficient_quota"}}`), nil, "OPENAI_API_KEY: no quota"},
		{"down", answers(503, key), nil, "OPENAI_BASE_URL: server error (503)"},
		{"somebody else", answers(200, key), nil, "OPENAI_BASE_URL: what answers there gives no list of models"},
		{"an endless list", answers(200, `{"data": [`+strings.Repeat(" ", maxBody)), nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := client(t, tt.url, tt.with).Check(t.Context()); err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, tt.want) || (got == "") != (tt.want == "") || strings.Contains(got, key) {
				t.Errorf("%q; want %q", got, tt.want)
			}
		})
	}
	if all, _ := server.Requests(); all != 0 {
		t.Errorf("%d completions", all)
	}
}
