package httpcall

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	api := newAPI(t, nil)
	gone := httptest.NewServer(nil)
	gone.Close()
	good := OAuth2{TokenURL: api.URL() + "/oauth2/token", ClientID: "client", ClientSecret: "client-canary"}
	wrong, unreachable, refresh := good, good, good
	wrong.ClientSecret = "canary-of-another"
	unreachable.TokenURL = gone.URL + "/oauth2/token"
	refresh.RefreshToken = "refresh-canary"
	s := newSender(t, map[string]Credential{
		"good": {OAuth2: &good}, "wrong": {OAuth2: &wrong}, "unreachable": {OAuth2: &unreachable}, "refresh": {OAuth2: &refresh}, "bearer": {Bearer: "canary"},
	})
	for _, tt := range []struct {
		name  string
		asked bool
		want  string // "": none
	}{
		{"good", true, ""},
		{"wrong", true, "the client id or the client secret is wrong: invalid_client"},
		{"unreachable", true, "connection refused"},
		{"refresh", false, ""},
		{"bearer", false, ""},
		{"nobody", false, ""},
	} {
		asked, err := s.Check(t.Context(), tt.name)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if asked != tt.asked || !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") || strings.Contains(got, "canary") {
			t.Errorf("%s: asked %t, %q", tt.name, asked, got)
		}
	}
}
