//go:build unix

package faultrig

import (
	"encoding/base64"
	"net/url"
	"testing"
)

// TestLeaks: a secret is found in any form that it may have in a text, and what is private where
// that is no content.
func TestLeaks(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		content    bool
		want       int
	}{
		{"nothing", `{"msg":"attempt","event":"00000000-0000-4000-8000-000000000001","to":"+1*******09"}`, false, 0},
		{"a secret", "x" + authToken + "y", false, 1},
		{"a secret in content", passwordCanary, true, 1},
		{"a secret in base64", base64.StdEncoding.EncodeToString([]byte(openAIKey)), false, 1},
		{"a secret in a URL", "a=" + url.QueryEscape("a secret of the fault rig's own"), false, 1},
		{"a number and an address", "+15005550009 ann@example.com", false, 2},
		{"a number in content", "+15005550009", true, 0},
		{"words of an event", "#00000000-0000-4000-8000-000000000001#", false, 1},
	} {
		if got := leaks(tt.text, tt.content); len(got) != tt.want {
			t.Errorf("%s: %q, want %d", tt.name, got, tt.want)
		}
	}
}

// TestContentIsNoSecret: what may stand in the content of a delivery is not taken for a secret that
// may stand nowhere.
func TestContentIsNoSecret(t *testing.T) {
	t.Parallel()
	for name, value := range private {
		if found := leaks(value, true); len(found) > 0 {
			t.Errorf("%s is taken for %s", name, found)
		}
	}
}
