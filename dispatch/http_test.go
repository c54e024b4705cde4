package dispatch

import (
	"strings"
	"testing"
)

func TestHTTPValidate(t *testing.T) {
	many := map[string]string{}
	for i := range MaxSaved + 1 {
		many[strings.Repeat("a", i+1)] = "a"
	}
	for _, tt := range []struct {
		name   string
		change func(*HTTP)
		want   string // a part of the sentence; "" means valid
	}{
		{"plain", func(*HTTP) {}, ""},
		{"a GET", func(h *HTTP) { h.Method = "GET" }, ""},
		{"a PATCH with a body", func(h *HTTP) { h.Method, h.Body = "PATCH", "{}" }, ""},
		{"a DELETE with a body", func(h *HTTP) { h.Method, h.Body = "DELETE", "{}" }, ""},
		{"no method", func(h *HTTP) { h.Method = "" }, `"method" has to be one of GET, POST, PUT, PATCH, DELETE`},
		{"small letters", func(h *HTTP) { h.Method = "post" }, "in capitals"},
		{"another method", func(h *HTTP) { h.Method = "CONNECT" }, `"method"`},
		{"a method with a line break", func(h *HTTP) { h.Method = "GET\r\n" }, `"method"`},
		{"a GET with a body", func(h *HTTP) { h.Method, h.Body = "GET", "{}" }, "or use POST"},
		{"no URL", func(h *HTTP) { h.URL = "" }, `"url" is empty`},
		{"a password in the URL", func(h *HTTP) { h.URL = "https://a:canary@example.com" }, `put credentials into "credential"`},
		{"another scheme", func(h *HTTP) { h.URL = "file:///canary" }, "https:// or http://"},
		{"a header", func(h *HTTP) {
			h.Headers = map[string]string{"X-A": "b", "Content-Type": "text/csv", "Webhook-Id": "x"}
		}, ""},
		{"authorization", func(h *HTTP) { h.Headers = map[string]string{"AUTHORIZATION": "canary"} }, `sets authorization, which cannot be set there; use "credential"`},
		{"a cookie", func(h *HTTP) { h.Headers = map[string]string{"Cookie": "canary"} }, `use "credential"`},
		{"an idempotency key by hand", func(h *HTTP) { h.Headers = map[string]string{"Idempotency-Key": "canary"} }, `use "idempotency_key"`},
		{"a header of the connection", func(h *HTTP) { h.Headers = map[string]string{"Host": "canary"} }, "sets host, which cannot be set there"},
		{"a header of a proxy", func(h *HTTP) { h.Headers = map[string]string{"Proxy-Authorization": "canary"} }, "cannot be set there"},
		{"a line break in a header", func(h *HTTP) { h.Headers = map[string]string{"X-A": "canary\r\nX-B: c"} }, "line break"},
		{"a credential", func(h *HTTP) { h.Credential = "ga4.eu_1-b" }, ""},
		{"a credential with a space", func(h *HTTP) { h.Credential = "ca nary" }, `"credential" has to be a name`},
		{"a long credential", func(h *HTTP) { h.Credential = strings.Repeat("a", 65) }, `"credential"`},
		{"success codes", func(h *HTTP) { h.Success = []int{200, 404, 599} }, ""},
		{"an interim code", func(h *HTTP) { h.Success = []int{100} }, `"success"`},
		{"a code beyond the last", func(h *HTTP) { h.Success = []int{600} }, `"success"`},
		{"a code twice", func(h *HTTP) { h.Success = []int{200, 200} }, "200 twice"},
		{"an idempotency key", func(h *HTTP) { h.IdempotencyKey = "Idempotency-Key" }, ""},
		{"a key that is no header", func(h *HTTP) { h.IdempotencyKey = "canary key" }, "has to be the name of a header"},
		{"a key of the connection", func(h *HTTP) { h.IdempotencyKey = "Content-Length" }, "says something else"},
		{"a key that authorizes", func(h *HTTP) { h.IdempotencyKey = "Authorization" }, "says something else"},
		{"a key that is set", func(h *HTTP) {
			h.IdempotencyKey, h.Headers = "X-Request-Id", map[string]string{"x-request-id": "canary"}
		}, "the same header"},
		{"saved", func(h *HTTP) { h.Save = map[string]string{"id": "data.id", "_first2": "items.0.id"} }, ""},
		{"saved under no name", func(h *HTTP) { h.Save = map[string]string{"": "data.id"} }, `"save" has a name`},
		{"saved under a path", func(h *HTTP) { h.Save = map[string]string{"can.ary": "data.id"} }, `"save" has a name`},
		{"an empty path", func(h *HTTP) { h.Save = map[string]string{"id": ""} }, "empty part"},
		{"a path with an empty part", func(h *HTTP) { h.Save = map[string]string{"id": "canary..id"} }, "empty part"},
		{"a long path", func(h *HTTP) { h.Save = map[string]string{"id": strings.Repeat("a", 257)} }, "257 bytes"},
		{"too much saved", func(h *HTTP) { h.Save = many }, "33 names; at most 32"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := HTTP{Method: "POST", URL: "https://example.com/a?b=c"}
			tt.change(&h)
			err := h.Validate()
			wantRefusal(t, err, tt.want)
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("the content is in %q", err)
			}
		})
	}
}

func TestHTTPRepeatable(t *testing.T) {
	for method, want := range map[string]bool{"GET": true, "PUT": true, "DELETE": true, "POST": false, "PATCH": false} {
		if got := (HTTP{Method: method}).Repeatable(); got != want {
			t.Errorf("%s: %t", method, got)
		}
		if !(HTTP{Method: method, Idempotent: true}).Repeatable() || !(HTTP{Method: method, IdempotencyKey: "X-Id"}).Repeatable() {
			t.Errorf("%s that is said to be: false", method)
		}
	}
}
