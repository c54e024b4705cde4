package httpcall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
)

const (
	maxAnswer = 64 << 10 // bytes of a body that are read
	maxSaved  = 16 << 10 // bytes of JSON that are kept of it

	// Beyond these a number is kept as text: Postgres's jsonb cannot hold all
	// that JSON can.
	maxDigits   = 1000
	maxExponent = 1000
)

// saved returns what h keeps of an answer, as a JSON object with a value for each
// name. No secret is in it.
func saved(h dispatch.HTTP, res *httpsend.Response, secrets []string) (json.RawMessage, *dispatch.Error) {
	refuse := func(kind dispatch.Kind, format string, args ...any) *dispatch.Error {
		why := fmt.Sprintf(format, args...)
		return failed(kind, res.Status, fmt.Errorf("%s %s: the request was taken, but %s", h.Method, host(h.URL), why))
	}
	switch {
	case res.Partial && len(res.Body) >= maxAnswer:
		return nil, refuse(dispatch.Rejected, "its answer has more than the %d KiB that save reads", maxAnswer>>10)
	case res.Partial:
		return nil, refuse(dispatch.Unknown, "its answer, which save reads, broke off")
	}
	answer, err := decode(res.Body)
	values := make(map[string]any, len(h.Save))
	for name, path := range h.Save {
		values[name] = nil
		if err != nil {
			continue // no JSON: nothing is there
		}
		if v, ok := follow(answer, path); ok {
			values[name] = fit(v, secrets)
		}
	}
	raw, err := json.Marshal(values)
	if err != nil {
		return nil, refuse(dispatch.Rejected, "what save keeps of its answer cannot be written as JSON")
	}
	if len(raw) > maxSaved {
		return nil, refuse(dispatch.Rejected, "what save keeps of its answer has more than %d KiB", maxSaved>>10)
	}
	return raw, nil
}

// decode reads one JSON value, with numbers as they are written.
func decode(body []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the value")
	}
	return v, nil
}

// follow returns what is at path in v: keys of objects, and positions from 0 in
// arrays, with dots between. A key with a dot in it cannot be named.
func follow(v any, path string) (any, bool) {
	for part := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			next, ok := in[part]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(in) || strconv.Itoa(i) != part {
				return nil, false
			}
			v = in[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// fit makes v fit for the ledger: without the secrets, which some APIs repeat,
// and without what jsonb cannot hold.
func fit(v any, secrets []string) any {
	switch v := v.(type) {
	case string:
		return fitText(v, secrets)
	case json.Number:
		return fitNumber(v, secrets)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = fit(v[i], secrets)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[fitText(k, secrets)] = fit(v[k], secrets)
		}
		return out
	}
	return v // null, true, false
}

func fitText(s string, secrets []string) string {
	for _, secret := range secrets {
		s = strings.ReplaceAll(s, secret, "***")
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// fitNumber returns n as it is, or its text where it is beyond what databases
// hold.
func fitNumber(n json.Number, secrets []string) any {
	text := n.String()
	if slices.Contains(secrets, text) {
		return "***"
	}
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		if exp, err := strconv.Atoi(text[i+1:]); err != nil || exp < -maxExponent || exp > maxExponent {
			return text
		}
	}
	if len(text) > maxDigits {
		return text
	}
	return n
}
