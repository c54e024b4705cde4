package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// keyring has the signing keys of each host, written as in a URL, in lower case; "" is for
// hosts that have none of their own.
type keyring map[string][][]byte

// of returns the keys that sign what goes to a URL: those of its host and port, of its host, or of
// every host; none where there are none.
func (k keyring) of(u *url.URL) [][]byte {
	for _, host := range []string{u.Host, u.Hostname(), ""} {
		if keys := k[strings.ToLower(host)]; keys != nil {
			return keys
		}
	}
	return nil
}

// secretForm says in errors what a secret looks like.
const secretForm = `; it has to be "whsec_" and the base64 of 24 to 64 random bytes, after "HOST=" where it is for one host`

// parseSecrets returns the signing keys. Its errors count the secrets, and
// repeat nothing of them.
func parseSecrets(secrets []dispatch.Secret) (keyring, error) {
	var texts []string
	for _, s := range secrets {
		texts = append(texts, strings.FieldsFunc(s.Reveal(), func(r rune) bool {
			return r == ',' || r == ' ' || r == '\t' || r == '\r' || r == '\n'
		})...)
	}
	if len(texts) == 0 {
		return nil, errors.New("is empty" + secretForm)
	}
	keys := keyring{}
	for i, text := range texts {
		host, key, err := parseSecret(text)
		if err != nil {
			which := ""
			if len(texts) > 1 {
				which = fmt.Sprintf("secret %d of %d ", i+1, len(texts))
			}
			return nil, errors.New(which + err.Error() + secretForm)
		}
		keys[host] = append(keys[host], key)
	}
	return keys, nil
}

// parseSecret returns the key of one secret, and the host that it is for, "" for all.
func parseSecret(text string) (host string, key []byte, err error) {
	if before, after, ok := strings.Cut(text, "=whsec_"); ok {
		host, text = strings.ToLower(before), "whsec_"+after
		if u, err := url.Parse("https://" + host + "/"); host == "" || err != nil || u.Host != host || u.Hostname() == "" {
			return "", nil, errors.New(`has something before "=" that is no host`)
		}
	}
	encoded, ok := strings.CutPrefix(text, "whsec_")
	if !ok {
		return "", nil, errors.New(`does not begin with "whsec_"`)
	}
	key, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	switch {
	case err != nil:
		return "", nil, errors.New("is not base64")
	case len(key) < 24 || len(key) > 64:
		return "", nil, fmt.Errorf("is %d bytes long", len(key))
	}
	return host, key, nil
}
