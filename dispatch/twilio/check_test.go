package twilio_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/twilio"
)

func TestCheck(t *testing.T) {
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
		with      func(*twilio.Config)
		want      string // "": none
	}{
		{"good", server.URL(), nil, ""},
		{"a wrong token", server.URL(), func(c *twilio.Config) { c.AuthToken = dispatch.Secret(token + "x") },
			"TWILIO_ACCOUNT_SID or TWILIO_AUTH_TOKEN: the credentials are wrong (status 401, code 20003)"},
		{"another account", server.URL(), func(c *twilio.Config) { c.AccountSID = "AC2" },
			"TWILIO_ACCOUNT_SID or TWILIO_AUTH_TOKEN: the credentials are wrong (status 401, code 20003)"},
		{"another path", server.URL() + "/api", nil, "TWILIO_ACCOUNT_SID or TWILIO_AUTH_TOKEN: no such account at this base URL (status 404, code 20404)"},
		{"nobody there", gone.URL, nil, "TWILIO_API_BASE_URL: GET " + strings.TrimPrefix(gone.URL, "http://") + ": dial tcp"},
		{"suspended", answers(200, `{"sid": "`+account+`", "status": "suspended"}`), nil, "TWILIO_ACCOUNT_SID: the account is suspended"},
		{"somebody else", answers(200, `<html>`+token), nil, "TWILIO_API_BASE_URL: what answers there does not answer as Twilio does"},
		{"a redirect", answers(302, ``), nil, "TWILIO_API_BASE_URL: a redirect, which Twilio does not send"},
		{"down", answers(503, ``), nil, "TWILIO_API_BASE_URL: Service Unavailable (status 503)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := sender(t, tt.url, tt.with).Check(t.Context()); err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, tt.want) || (got == "") != (tt.want == "") || strings.Contains(got, token) {
				t.Errorf("%q; want %q", got, tt.want)
			}
		})
	}
	if all, _ := server.Requests(); all != 0 {
		t.Errorf("%d messages were to be created", all)
	}
}
