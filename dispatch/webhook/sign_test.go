package webhook

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// secret returns a valid signing secret whose key consists of n times b.
func secret(b byte, n int) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(b), n)))
}

// The vector of the specification's own libraries.
func TestSignVector(t *testing.T) {
	keys, err := parseSecrets([]dispatch.Secret{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
	if err != nil {
		t.Fatal(err)
	}
	got := sign(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), `{"test": 2432232314}`)
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("sign = %s, want %s", got, want)
	}
}

func TestSignAgainstReference(t *testing.T) {
	secrets := []string{secret('a', 24), secret('b', 32), secret('c', 64)}
	keys, err := parseSecrets([]dispatch.Secret{dispatch.Secret(strings.Join(secrets, ","))})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	for _, body := range []string{"{}", `{"é": "\u2028"}`, "a.b.c\r\n", strings.Repeat("x", 1<<20)} {
		h := http.Header{}
		h.Set("webhook-id", "5f0c1d3e-0000-4000-8000-000000000000")
		h.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
		h.Set("webhook-signature", sign(keys, h.Get("webhook-id"), at, body))
		for i, s := range secrets {
			ref, err := standardwebhooks.NewWebhook(s)
			if err != nil {
				t.Fatal(err)
			}
			if err := ref.Verify([]byte(body), h); err != nil {
				t.Errorf("secret %d, body %.20q: %v", i+1, body, err)
			}
			if err := ref.Verify([]byte(body+" "), h); err == nil {
				t.Errorf("secret %d, body %.20q: verifies with another body", i+1, body)
			}
		}
	}
}

func TestParseSecrets(t *testing.T) {
	a, b := secret('a', 24), secret('b', 64)
	for _, tt := range []struct {
		name    string
		secrets []dispatch.Secret
		keys    int
		want    string // a part of the error
	}{
		{"one", []dispatch.Secret{dispatch.Secret(a)}, 1, ""},
		{"one from a file", []dispatch.Secret{dispatch.Secret(a + "\r\n")}, 1, ""},
		{"two in one", []dispatch.Secret{dispatch.Secret(a + ", " + b)}, 2, ""},
		{"two apart", []dispatch.Secret{dispatch.Secret(a), dispatch.Secret(b)}, 2, ""},
		{"without padding", []dispatch.Secret{dispatch.Secret(strings.TrimRight(b, "="))}, 1, ""},
		{"none", nil, 0, "is empty"},
		{"an empty one", []dispatch.Secret{""}, 0, "is empty"},
		{"only separators", []dispatch.Secret{" , \n"}, 0, "is empty"},
		{"no prefix", []dispatch.Secret{dispatch.Secret(strings.TrimPrefix(a, "whsec_"))}, 0, `does not begin with "whsec_"`},
		{"not base64", []dispatch.Secret{"whsec_canary-canary-canary-canary-canary"}, 0, "is not base64"},
		{"too short", []dispatch.Secret{dispatch.Secret(secret('a', 23))}, 0, "is 23 bytes long"},
		{"too long", []dispatch.Secret{dispatch.Secret(secret('a', 65))}, 0, "is 65 bytes long"},
		{"nothing but the prefix", []dispatch.Secret{"whsec_"}, 0, "is 0 bytes long"},
		{"the second is wrong", []dispatch.Secret{dispatch.Secret(a), "canary"}, 0, "secret 2 of 2 does not begin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := parseSecrets(tt.secrets)
			if tt.want == "" {
				if err != nil || len(keys) != tt.keys {
					t.Errorf("parseSecrets = %d keys, %v; want %d", len(keys), err, tt.keys)
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

func TestNewNamesTheVariable(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.HasPrefix(err.Error(), "OUTBOX_WEBHOOK_SECRET: is empty") {
		t.Errorf("New = %v", err)
	}
}
