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
	got := sign(keys[""], "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), `{"test": 2432232314}`)
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
		h.Set("webhook-signature", sign(keys[""], h.Get("webhook-id"), at, body))
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
