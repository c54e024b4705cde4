package standin

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func newAPI(t *testing.T, cfg APIConfig) *API {
	t.Helper()
	a, err := NewAPI(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// ask sends a request and returns its status, 0 where no answer came, and body.
func ask(t *testing.T, method, address, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, string(text)
}

func TestAPITokens(t *testing.T) {
	form := func(kv ...string) string {
		v := url.Values{}
		for i := 0; i < len(kv); i += 2 {
			v.Set(kv[i], kv[i+1])
		}
		return v.Encode()
	}
	a := newAPI(t, APIConfig{ClientID: "c", ClientSecret: "s", RefreshToken: "r", Rotate: true, TTL: 7})
	typed := []string{"Content-Type", "application/x-www-form-urlencoded"}
	for _, tt := range []struct {
		name, body, want string
		status           int
	}{
		{"a wrong secret", form("client_id", "c", "client_secret", "x", "grant_type", "refresh_token", "refresh_token", "r"), "invalid_client", 401},
		{"another grant", form("client_id", "c", "client_secret", "s", "grant_type", "client_credentials"), "unsupported_grant_type", 400},
		{"a wrong refresh token", form("client_id", "c", "client_secret", "s", "grant_type", "refresh_token", "refresh_token", "x"), "invalid_grant", 400},
		{"right", form("client_id", "c", "client_secret", "s", "grant_type", "refresh_token", "refresh_token", "r"), `"expires_in": 7`, 200},
		{"the same refresh token again", form("client_id", "c", "client_secret", "s", "grant_type", "refresh_token", "refresh_token", "r"), "invalid_grant", 400},
	} {
		if status, body := ask(t, "POST", a.URL()+"/oauth2/token", tt.body, typed...); status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %s", tt.name, status, body)
		}
	}

	b := newAPI(t, APIConfig{ClientID: "c", ClientSecret: "s"})
	status, body := ask(t, "POST", b.URL()+"/oauth2/token", form("grant_type", "client_credentials"), append(typed, "Authorization", "Basic Yzpz")...)
	var got struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(body), &got); status != 200 || err != nil || got.AccessToken == "" {
		t.Fatalf("%d %s", status, body)
	}
	bearer := []string{"Authorization", "Bearer " + got.AccessToken}
	if status, _ := ask(t, "GET", b.URL()+"/v1/things/1", "", bearer...); status != 200 {
		t.Errorf("with a token: %d", status)
	}
	if status, _ := ask(t, "GET", b.URL()+"/v1/things/1", ""); status != 401 {
		t.Errorf("without one: %d", status)
	}
	b.Revoke()
	if status, _ := ask(t, "GET", b.URL()+"/v1/things/1", "", bearer...); status != 401 {
		t.Errorf("with one that was revoked: %d", status)
	}
	if all, forTokens := b.Requests(); all != 3 || forTokens != 1 || len(b.Received()) != 1 {
		t.Errorf("%d requests, %d for tokens, %d taken", all, forTokens, len(b.Received()))
	}
}

func TestAPITakes(t *testing.T) {
	a := newAPI(t, APIConfig{})
	id := func(key string) string {
		status, body := ask(t, "POST", a.URL()+"/v1/things", "{}", "Idempotency-Key", key)
		var got struct{ Data struct{ ID string } }
		if err := json.Unmarshal([]byte(body), &got); status != 201 || err != nil || got.Data.ID == "" {
			t.Errorf("%d %s", status, body)
		}
		return got.Data.ID
	}
	if one, again, other := id("k"), id("k"), id("l"); one != again || one == other {
		t.Errorf("one key gave %s and %s, another %s", one, again, other)
	}
	if status, body := ask(t, "POST", a.URL()+"/mp/collect?api_secret=x", "not even JSON"); status != 204 || body != "" {
		t.Errorf("a hit: %d %q", status, body)
	}
	if status, _ := ask(t, "DELETE", a.URL()+"/v1/things/1", ""); status != 204 {
		t.Errorf("a DELETE: %d", status)
	}
	if status, _ := ask(t, "POST", a.URL()+"/elsewhere", ""); status != 404 {
		t.Errorf("elsewhere: %d", status)
	}
	got := a.Received()
	if len(got) != 5 || got[0].ID != "k" || got[3].Recipient != "POST /mp/collect?api_secret=x" || got[3].Body != "not even JSON" {
		t.Errorf("received %+v", got)
	}
}

func TestAPIScript(t *testing.T) {
	for _, tt := range []struct {
		name   string
		reply  HTTPReply
		status int // 0 means that no answer comes
		taken  bool
	}{
		{"nothing special", HTTPReply{}, 204, true},
		{"a refusal", HTTPReply{Status: 400}, 400, false},
		{"another success", HTTPReply{Status: 202, Body: "{}"}, 202, true},
		{"a failure after it was taken", HTTPReply{Status: 500, Taken: true}, 500, true},
		{"cut before", HTTPReply{CutBefore: true}, 0, false},
		{"cut after", HTTPReply{CutAfter: true}, 0, true},
	} {
		a := newAPI(t, APIConfig{})
		a.Script(func(n int, r *http.Request) HTTPReply {
			if body, _ := io.ReadAll(r.Body); n != 1 || string(body) != "{}" {
				t.Errorf("script got request %d with body %q", n, body)
			}
			return tt.reply
		})
		if status, _ := ask(t, "POST", a.URL()+"/mp/collect", "{}"); status != tt.status || (len(a.Received()) == 1) != tt.taken {
			t.Errorf("%s: status %d, received %d", tt.name, status, len(a.Received()))
		}
		a.ScriptTokens(func(int, *http.Request) HTTPReply { return tt.reply })
		if status, _ := ask(t, "POST", a.URL()+"/oauth2/token", ""); tt.reply.Status != 0 && status != tt.reply.Status {
			t.Errorf("%s: status of a token %d", tt.name, status)
		}
	}
}
