package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// keyring has the signing keys of each receiver, by its host, or its host and port; "" is for
// those that have none of their own.
type keyring map[string][][]byte

// of returns the keys that sign what goes to a URL: those of its host and port, of its host, or of
// every host; none where there are none.
func (k keyring) of(u *url.URL) [][]byte {
	host, port := hostOf(u), u.Port()
	switch {
	case port != "":
	case u.Scheme == "http":
		port = "80"
	default:
		port = "443"
	}
	for _, name := range []string{net.JoinHostPort(host, port), host, ""} {
		if keys := k[name]; keys != nil {
			return keys
		}
	}
	return nil
}

// hostOf returns the host of a URL in the one way that it is written here: in lower case, without a
// dot at the end, an address as netip does.
func hostOf(u *url.URL) string {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.String()
	}
	return host
}

// receiver is what may stand before a secret: a host or an address, and a port.
var receiver = regexp.MustCompile(`^(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?\.?)(:[0-9]{1,5})?$`)

// parseReceiver returns the name that a keyring has for text.
func parseReceiver(text string) (name string, ok bool) {
	u, err := url.Parse("https://" + text)
	if err != nil || !receiver.MatchString(text) || strings.HasPrefix(text, "whsec_") {
		return "", false
	}
	if u.Port() == "" {
		return hostOf(u), true
	}
	return net.JoinHostPort(hostOf(u), u.Port()), true
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
		if host, ok = parseReceiver(before); !ok {
			return "", nil, errors.New(`has something before "=" that is no host`)
		}
		text = "whsec_" + after
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
