package webhook

import (
	"encoding/base64"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// secretsRefused is all that may be said of secrets that cannot be used.
var secretsRefused = regexp.MustCompile(`^(secret \d+ of \d+ )?(is empty|has something before "=" that is no host|does not begin with "whsec_"|is not base64|is \d+ bytes long); ` +
	`it has to be "whsec_" and the base64 of 24 to 64 random bytes, after "HOST=" where it is for one host$`)

// FuzzParseSecrets: what is taken are keys of 24 to 64 bytes, which the library of the
// specification takes for the same; and a refusal says nothing of a secret but
// its length.
func FuzzParseSecrets(f *testing.F) {
	for _, seed := range []string{
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", secret('a', 24) + ", " + secret('b', 64) + "\r\n", secret('a', 23),
		"whsec_", "whsec_====", "canary", " ,\n", strings.TrimRight(secret('c', 31), "=") + "\x00", "whsec_" + strings.Repeat("-_", 20),
		"hooks.example.com=" + secret('d', 24) + " [::1]:8443=" + secret('e', 24), "=" + secret('f', 24), "a/b=" + secret('g', 24),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := parseSecrets([]dispatch.Secret{dispatch.Secret(text)})
		if err != nil {
			if !secretsRefused.MatchString(err.Error()) || keys != nil {
				t.Errorf("%q: %d keys, %v", text, len(keys), err)
			}
			return
		}
		if len(keys) == 0 {
			t.Errorf("%q: no keys, and no error", text)
		}
		var again []dispatch.Secret
		for host, some := range keys {
			prefix := ""
			if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() {
				prefix = "[" + host + "]="
			} else if host != "" {
				prefix = host + "="
			}
			for _, key := range some {
				if len(key) < 24 || len(key) > 64 {
					t.Errorf("%q: a key of %d bytes", text, len(key))
				}
				written := "whsec_" + base64.StdEncoding.EncodeToString(key)
				if _, err := standardwebhooks.NewWebhook(written); err != nil {
					t.Errorf("%q: %v", text, err)
				}
				again = append(again, dispatch.Secret(prefix+written))
			}
		}
		same, err := parseSecrets(again)
		if err != nil || !reflect.DeepEqual(same, keys) {
			t.Fatalf("%q: %v, and %v when they are written and read again: %v", text, keys, same, err)
		}
	})
}
