package webhook

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

func TestParseSecrets(t *testing.T) {
	a, b := secret('a', 24), secret('b', 64)
	for _, tt := range []struct {
		name    string
		secrets []dispatch.Secret
		keys    int
		host    string // whose keys
		want    string // a part of the error
	}{
		{"one", []dispatch.Secret{dispatch.Secret(a)}, 1, "", ""},
		{"one from a file", []dispatch.Secret{dispatch.Secret(a + "\r\n")}, 1, "", ""},
		{"two in one", []dispatch.Secret{dispatch.Secret(a + ", " + b)}, 2, "", ""},
		{"two apart", []dispatch.Secret{dispatch.Secret(a), dispatch.Secret(b)}, 2, "", ""},
		{"without padding", []dispatch.Secret{dispatch.Secret(strings.TrimRight(b, "="))}, 1, "", ""},
		{"none", nil, 0, "", "is empty"},
		{"an empty one", []dispatch.Secret{""}, 0, "", "is empty"},
		{"only separators", []dispatch.Secret{" , \n"}, 0, "", "is empty"},
		{"no prefix", []dispatch.Secret{dispatch.Secret(strings.TrimPrefix(a, "whsec_"))}, 0, "", `does not begin with "whsec_"`},
		{"not base64", []dispatch.Secret{"whsec_canary-canary-canary-canary-canary"}, 0, "", "is not base64"},
		{"too short", []dispatch.Secret{dispatch.Secret(secret('a', 23))}, 0, "", "is 23 bytes long"},
		{"too long", []dispatch.Secret{dispatch.Secret(secret('a', 65))}, 0, "", "is 65 bytes long"},
		{"nothing but the prefix", []dispatch.Secret{"whsec_"}, 0, "", "is 0 bytes long"},
		{"for a host", []dispatch.Secret{dispatch.Secret("Hooks.example.com=" + a)}, 1, "hooks.example.com", ""},
		{"for a host and port, beside one for all", []dispatch.Secret{dispatch.Secret("[::1]:8443=" + a + " " + b + " [::1]:8443=" + b)}, 2, "[::1]:8443", ""},
		{"for no host", []dispatch.Secret{dispatch.Secret("=" + a)}, 0, "", `has something before "=" that is no host`},
		{"for a URL", []dispatch.Secret{dispatch.Secret("https://hooks.example.com=" + a)}, 0, "", `has something before "=" that is no host`},
		{"for somebody at a host", []dispatch.Secret{dispatch.Secret("me@hooks.example.com=" + a)}, 0, "", `has something before "=" that is no host`},
		{"for an address without a port", []dispatch.Secret{dispatch.Secret("[2001:DB8:0::1]=" + a)}, 1, "2001:db8::1", ""},
		{"for a host with a dot", []dispatch.Secret{dispatch.Secret("hooks.example.com.:443=" + a)}, 1, "hooks.example.com:443", ""},
		{"for many hosts", []dispatch.Secret{dispatch.Secret("*.example.com=" + a)}, 0, "", `has something before "=" that is no host`},
		{"for a host and no port", []dispatch.Secret{dispatch.Secret("hooks.example.com:=" + a)}, 0, "", `has something before "=" that is no host`},
		{"two that nothing is between", []dispatch.Secret{dispatch.Secret(secret('a', 25) + b)}, 0, "", `has something before "=" that is no host`},
		{"for a port", []dispatch.Secret{dispatch.Secret(":443=" + a)}, 0, "", `has something before "=" that is no host`},
		{"the second is wrong", []dispatch.Secret{dispatch.Secret(a), "canary"}, 0, "", "secret 2 of 2 does not begin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := parseSecrets(tt.secrets)
			if tt.want == "" {
				if err != nil || len(keys[tt.host]) != tt.keys {
					t.Errorf("parseSecrets = %v, %v; want %d keys", keys, err, tt.keys)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("parseSecrets: %v, want %q", err, tt.want)
			}
			for _, s := range tt.secrets {
				for part := range strings.SplitSeq(s.Reveal(), "_") {
					if len(part) > 5 && strings.Contains(err.Error(), part) {
						t.Errorf("the error repeats the secret: %v", err)
					}
				}
			}
		})
	}
}

// TestKeysOf: a host that has secrets of its own is signed for with those alone.
func TestKeysOf(t *testing.T) {
	a, b, c := secret('a', 24), secret('b', 24), secret('c', 24)
	some, err := parseSecrets([]dispatch.Secret{dispatch.Secret(a + " one.example.com=" + b + " one.example.com:8443=" + c)})
	if err != nil {
		t.Fatal(err)
	}
	ports, err := parseSecrets([]dispatch.Secret{dispatch.Secret(a + " one.example.com:443=" + b + " [2001:db8::1]=" + c)})
	if err != nil {
		t.Fatal(err)
	}
	only, err := parseSecrets([]dispatch.Secret{dispatch.Secret("one.example.com=" + b)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		keys keyring
		to   string
		want string // of what the key consists; "" for none
	}{
		{some, "https://two.example.com/", "a"},
		{some, "https://one.example.com.example.org/", "a"},
		{some, "https://ONE.example.com/hook", "b"},
		{some, "https://one.example.com:443/hook", "b"},
		{some, "https://one.example.com:8443/hook", "c"},
		{some, "https://one.example.com./hook", "b"},
		{ports, "https://one.example.com/", "b"},
		{ports, "https://one.example.com:8443/", "a"},
		{ports, "http://one.example.com/", "a"},
		{ports, "https://[2001:db8:0:0::1]:8443/", "c"},
		{only, "https://one.example.com/", "b"},
		{only, "https://two.example.com/", ""},
	} {
		u, err := url.Parse(tt.to)
		if err != nil {
			t.Fatal(err)
		}
		got := tt.keys.of(u)
		if tt.want == "" && got != nil || tt.want != "" && (len(got) != 1 || !slices.Equal(got[0], []byte(strings.Repeat(tt.want, 24)))) {
			t.Errorf("%s is signed for with %q, want %q", tt.to, got, tt.want)
		}
	}
}

func TestNewNamesTheVariable(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.HasPrefix(err.Error(), "OUTBOX_WEBHOOK_SECRET: is empty") {
		t.Errorf("New = %v", err)
	}
}
