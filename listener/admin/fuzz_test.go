package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// namedKey finds the key that a refusal names.
var namedKey = regexp.MustCompile(`^(?:there is no key|the key) ("(?:[^"\\]|\\.)*")`)

// keysIn are the keys of all objects in text, as far as it can be read.
func keysIn(text string) (all []string) {
	dec := json.NewDecoder(strings.NewReader(text))
	for {
		token, err := dec.Token()
		if err != nil {
			return all
		}
		if s, ok := token.(string); ok {
			all = append(all, s) // values too: the more the less is found
		}
	}
}

// FuzzBody: what is read is one JSON object and nothing behind it; what is refused is
// answered with a reason of one line, and a key that it names stands in the
// body. The limit of a dispatch, which refuses nothing, stays in its bounds.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"types": ["quote.*"], "limit": 5, "dry_run": true, "rate": 1.5, "reason": "why"}`,
		`{"LIMIT": "x"}`, `{"limit": 1e400}`, `{"since": "yesterday"}`, `{"ids": ["x"]}`, `{"types": {"a": 1}}`,
		`{"no\n\"such": 1}`, `{"a": {"b": [`, `{} {}`, "null", "[]", "7", "", "\xff", `{"types": null, "types": [null]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, into := range []any{new(changeBody), new(pauseBody), new(operate.Filter)} {
			w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader(text))
			r.Header.Set("Content-Type", "application/json; charset=utf-8")
			if readJSON(w, r, into) {
				var object map[string]json.RawMessage
				if err := json.Unmarshal([]byte(text), &object); err != nil || object == nil {
					t.Errorf("%q is read as an object: %v", text, err)
				}
				if w.Body.Len() > 0 {
					t.Errorf("%q is read, and answered with %q", text, w.Body)
				}
				continue
			}
			var said refusal
			err := json.Unmarshal(w.Body.Bytes(), &said)
			if w.Code == http.StatusRequestEntityTooLarge && len(text) > maxBody {
				continue
			}
			if w.Code != http.StatusBadRequest || err != nil || said.Error == "" || said.Reason == "" || strings.ContainsAny(said.Reason, "\r\n") {
				t.Errorf("%q is answered with %d %q: %v", text, w.Code, w.Body, err)
			}
			if found := namedKey.FindStringSubmatch(said.Reason); found != nil {
				name, err := strconv.Unquote(found[1])
				if err != nil || !slices.ContainsFunc(keysIn(text), func(k string) bool { return strings.EqualFold(k, name) }) {
					t.Errorf("%q: %q names %s", text, said.Reason, found[1])
				}
			}
		}
		limit, ok := readLimit(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader(text)))
		if ok != (len(text) <= maxBody) || ok && (limit < 1 || limit > maxLimit) {
			t.Errorf("%q has the limit %d", text, limit)
		}
	})
}
