package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"time"
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
