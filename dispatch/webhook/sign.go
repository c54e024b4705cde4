package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// sign returns the value of webhook-signature: a signature for each key,
// separated by spaces.
func sign(keys [][]byte, id string, at time.Time, body string) string {
	text := make([]byte, 0, len(id)+len(body)+24)
	text = append(append(text, id...), '.')
	text = append(strconv.AppendInt(text, at.Unix(), 10), '.')
	text = append(text, body...)
	var out []byte
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		mac.Write(text)
		if out != nil {
			out = append(out, ' ')
		}
		out = base64.StdEncoding.AppendEncode(append(out, "v1,"...), mac.Sum(nil))
	}
	return string(out)
}

// parseSecrets returns the signing keys. Its errors count the secrets, and
// repeat nothing of them.
func parseSecrets(secrets []dispatch.Secret) ([][]byte, error) {
	var texts []string
	for _, s := range secrets {
		texts = append(texts, strings.FieldsFunc(s.Reveal(), func(r rune) bool {
			return r == ',' || r == ' ' || r == '\t' || r == '\r' || r == '\n'
		})...)
	}
	const hint = `; it has to be "whsec_" and the base64 of 24 to 64 random bytes`
	if len(texts) == 0 {
		return nil, errors.New("is empty" + hint)
	}
	keys := make([][]byte, len(texts))
	for i, text := range texts {
		which := ""
		if len(texts) > 1 {
			which = fmt.Sprintf("secret %d of %d ", i+1, len(texts))
		}
		encoded, ok := strings.CutPrefix(text, "whsec_")
		if !ok {
			return nil, errors.New(which + `does not begin with "whsec_"` + hint)
		}
		key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
		if err != nil {
			return nil, errors.New(which + "is not base64" + hint)
		}
		if len(key) < 24 || len(key) > 64 {
			return nil, fmt.Errorf("%sis %d bytes long%s", which, len(key), hint)
		}
		keys[i] = key
	}
	return keys, nil
}
