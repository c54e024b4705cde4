package httpcall

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/sendertest"
)

// FuzzTokenReply: a token comes from a 2xx alone, stood in the answer, and can be sent in
// a header; whatever else comes is an endpoint that is down, of which nothing is
// shown that was sent to it or that it wrote.
func FuzzTokenReply(f *testing.F) {
	const asJSON, asForm = "application/json", "application/x-www-form-urlencoded"
	f.Add(200, asJSON, `{"access_token": "abc", "token_type": "Bearer", "expires_in": 3600}`, "")
	f.Add(200, asJSON, `{"access_token": "abc", "expires_in": "60", "refresh_token": "next"}`, "")
	f.Add(200, asJSON, `{"access_token": "a b\r\nx: canary", "token_type": "bearer"}`, "")
	f.Add(200, asJSON, `{"access_token": "abc", "token_type": "mac", "expires_in": -9223372036854775808}`, "")
	f.Add(200, asForm, `access_token=a%20b&token_type=bearer&expires_in=1e9`, "")
	f.Add(200, asForm, `access_token=abc&expires_in=99999999999`, "")
	f.Add(200, "text/plain; a", `error=canary`, "")
	f.Add(400, asJSON, `{"error": "invalid_grant", "error_description": "canary client-secret"}`, "")
	f.Add(429, "", `canary`, "1000000000")
	f.Fuzz(func(t *testing.T, status int, kind, body, retryAfter string) {
		if status < 200 || status > 999 {
			return
		}
		for _, refresh := range []dispatch.Secret{"", "refresh-secret"} {
			client := &http.Client{Transport: sendertest.Says{Status: status, Header: http.Header{"Content-Type": {kind}, "Retry-After": {retryAfter}}, Body: body}}
			o := OAuth2{TokenURL: "https://id.example.com/path-secret", ClientID: "client", ClientSecret: "client-secret", RefreshToken: refresh}
			tokens := newTokens("name", o, client, time.Now)
			token, fresh, e := tokens.get(t.Context())
			if e != nil {
				text := e.Error()
				switch {
				case token != "" || fresh:
					t.Errorf("%v, and %q", e, token)
				case e.Kind != dispatch.Down || e.RetryAfter < 0:
					t.Errorf("%s, %v", e.Kind, e.RetryAfter)
				case strings.Contains(text, "secret") && !strings.Contains(text, "the client secret is wrong") || strings.Contains(text, "canary") || strings.ContainsAny(text, "\r\n"):
					t.Errorf("shows %q", text)
				}
				continue
			}
			var said struct {
				Token string `json:"access_token"`
			}
			_ = json.Unmarshal([]byte(body), &said)
			form, _ := url.ParseQuery(body)
			switch {
			case status > 299, token == "", !sendable(token):
				t.Errorf("%d %q gives the token %q", status, body, token)
			case token != said.Token && token != form.Get("access_token"):
				t.Errorf("%q gives the token %q", body, token)
			}
		}
	})
}
