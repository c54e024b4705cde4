package httpcall

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

func TestSave(t *testing.T) {
	api := newAPI(t, func(c *standin.APIConfig) { c.ClientID = "" })
	s := newSender(t, nil)
	save := map[string]string{"id": "data.id", "first": "items.0.id", "second": "items.1.id", "third": "items.2.id", "number": "data.number",
		"price": "data.price", "item": "items.0", "none": "data.id.more"}
	r, e := send(t, s, dispatch.HTTP{Method: "PUT", URL: api.URL() + "/v1/things/7", Body: "{}", Save: save})
	if e != nil {
		t.Fatal(e)
	}
	const want = `{"first":"7/0","id":"7","item":{"id":"7/0"},"none":null,"number":9007199254740993,"price":19.90,"second":null,"third":null}`
	if r.Status != 200 || string(r.Answer) != want {
		t.Errorf("answer %s\nwant   %s", r.Answer, want)
	}
}

func TestSaveOddAnswers(t *testing.T) {
	long := strings.Repeat("x", 17<<10)
	for _, tt := range []struct {
		name string
		body string
		want string        // the answer
		kind dispatch.Kind // "" means taken
		say  string
	}{
		{"empty", "", `{"v":null}`, "", ""},
		{"no JSON", "thank you", `{"v":null}`, "", ""},
		{"cut JSON", `{"v": 1`, `{"v":null}`, "", ""},
		{"more than a value", `{"v": 1} {"v": 2}`, `{"v":null}`, "", ""},
		{"an array", `[{"v": 1}]`, `{"v":null}`, "", ""},
		{"null", `{"v": null}`, `{"v":null}`, "", ""},
		{"a text", `{"v": "<b>é\u0000\ud800"}`, `{"v":"\u003cb\u003eé��"}`, "", ""},
		{"numbers as they are", `{"v": [1.0, 0.10, 1E+2, -0, 123456789012345678901234567890]}`, `{"v":[1.0,0.10,1E+2,-0,123456789012345678901234567890]}`, "", ""},
		{"a number beyond all databases", `{"v": 1e999999999}`, `{"v":"1e999999999"}`, "", ""},
		{"a number of many digits", `{"v": 1` + strings.Repeat("0", 2000) + `}`, `{"v":"1` + strings.Repeat("0", 2000) + `"}`, "", ""},
		{"a long text beside it", `{"v": 1, "w": "` + long + `"}`, `{"v":1}`, "", ""},
		{"a long text", `{"v": "` + long + `"}`, "", dispatch.Rejected, "more than 16 KiB"},
		{"a whole answer at the limit", `{"v": 1, "w": "` + strings.Repeat("x", 64<<10-17) + `"}`, `{"v":1}`, "", ""},
		{"an answer over the limit", `{"v": 1, "w": "` + strings.Repeat("x", 64<<10-16) + `"}`, "", dispatch.Rejected, "more than the 64 KiB"},
		{"deep", strings.Repeat(`{"v":`, 20000) + "1" + strings.Repeat("}", 20000), "", dispatch.Rejected, "more than the 64 KiB"},
		{"deep, within the limit", strings.Repeat(`[`, 30000) + strings.Repeat("]", 30000), `{"v":null}`, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			api := newAPI(t, nil)
			api.Script(func(int, *http.Request) standin.HTTPReply { return standin.HTTPReply{Status: 200, Body: tt.body} })
			s := newSender(t, ga4)
			h := hit(api)
			r, e := send(t, s, h)
			if e != nil || r.Answer != nil {
				t.Errorf("without save: %s, %v", r.Answer, e)
			}
			h.Save = map[string]string{"v": "v"}
			r, e = send(t, s, h)
			switch {
			case tt.kind == "" && (e != nil || string(r.Answer) != tt.want):
				t.Errorf("answer %s, %v\nwant   %s", r.Answer, e, tt.want)
			case tt.kind != "" && (e == nil || e.Kind != tt.kind || e.Status != 200 || !strings.Contains(e.Error(), tt.say) || !strings.Contains(e.Error(), "was taken")):
				t.Errorf("got %v, want %s and %q", e, tt.kind, tt.say)
			}
		})
	}
}

// The answer to a request that was taken, and whose end never came.
func TestSaveOfABrokenAnswer(t *testing.T) {
	h := dispatch.HTTP{Method: "POST", URL: "https://example.com", Save: map[string]string{"v": "v"}}
	_, e := saved(h, &httpsend.Response{Status: 201, Body: []byte(`{"v": 1`), Partial: true}, nil)
	if e == nil || e.Kind != dispatch.Unknown || e.Status != 201 || !strings.Contains(e.Error(), "was taken") {
		t.Errorf("got %v, want unknown", e)
	}
}

// Some APIs repeat what they were sent.
func TestNoSecretInAnAnswer(t *testing.T) {
	api := newAPI(t, nil)
	api.Script(func(_ int, r *http.Request) standin.HTTPReply {
		all := map[string]any{"url": r.URL.String(), "args": r.URL.Query(), "headers": r.Header, "number": json.Number("424242424242"),
			r.URL.Query().Get("api_secret"): "a key"}
		body, err := json.Marshal(map[string]any{"all": all})
		if err != nil {
			t.Error(err)
		}
		return standin.HTTPReply{Status: 200, Body: string(body)}
	})
	token := &OAuth2{TokenURL: api.URL() + "/oauth2/token", ClientID: "client", ClientSecret: "client-canary"}
	for name, c := range map[string]Credential{
		"bearer": {Bearer: "bearer-canary", Header: map[string]dispatch.Secret{"X-Key": "header-canary", "X-Number": "424242424242"}},
		"basic":  {Basic: &Basic{User: "user", Password: "password-canary"}, Query: map[string]dispatch.Secret{"api_secret": "query-canary \"&"}},
		"key":    {Basic: &Basic{User: "key-canary"}},
		"oauth":  {OAuth2: token},
	} {
		s := newSender(t, map[string]Credential{name: c})
		h := hit(api)
		h.URL, h.Credential, h.Save = api.URL()+"/mp/collect?x=1", name, map[string]string{"all": "all"}
		r, e := send(t, s, h)
		if e != nil {
			t.Fatal(e)
		}
		text := string(r.Answer)
		for _, secret := range []string{"canary", "access-", "dXNlcjpwYXNzd29yZC1jYW5hcnk=", "a2V5LWNhbmFyeTo="} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: %q is in %s", name, secret, text)
			}
		}
		if name == "bearer" && strings.Contains(text, "424242424242") {
			t.Errorf("a secret number is in %s", text)
		}
		if !strings.Contains(text, "***") {
			t.Errorf("%s: nothing was repeated, so that this shows nothing: %s", name, text)
		}
	}
}

// places returns each path that leads into v, with what is there, by a walk that
// follow has no part in.
func places(v any, path string, into map[string]any) {
	if path != "" {
		into[path] = v
		path += "."
	}
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			if k != "" && !strings.Contains(k, ".") {
				places(v[k], path+k, into)
			}
		}
	case []any:
		for i := range v {
			places(v[i], path+strconv.Itoa(i), into)
		}
	}
}

func FuzzSave(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"data": {"id": 7}, "items": [{"id": "a"}]}`, "items.0.id"},
		{`[[1, 2], {"0": null}]`, "1.0"},
		{`{"a": 1e999999999, "b": "\u0000 secret-canary"}`, "b"},
		{`{"00": {"+1": [0]}}`, "00.+1.00"},
		{"\xff", "a"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, body, path string) {
		h := dispatch.HTTP{Method: "POST", URL: "https://example.com", Save: map[string]string{"v": path}}
		if h.Validate() != nil {
			return
		}
		raw, e := saved(h, &httpsend.Response{Status: 200, Body: []byte(body)}, []string{"secret-canary"})
		if e != nil {
			if e.Kind != dispatch.Rejected {
				t.Fatalf("failed with %v", e)
			}
			return
		}
		var got map[string]any
		if !json.Valid(raw) || json.Unmarshal(raw, &got) != nil || len(got) != 1 || len(raw) > maxSaved || !utf8.Valid(raw) {
			t.Fatalf("answer %q", raw)
		}
		if strings.Contains(string(raw), `\u0000`) && !strings.Contains(string(raw), `\\u0000`) || strings.Contains(string(raw), "secret-canary") {
			t.Fatalf("answer %q", raw)
		}
		all := map[string]any{}
		if v, err := decode([]byte(body)); err == nil {
			places(v, "", all)
		}
		want, there := all[path]
		if !there {
			want = nil
		}
		if exp, _ := json.Marshal(map[string]any{"v": fit(want, []string{"secret-canary"})}); string(exp) != string(raw) {
			t.Fatalf("%q at %q gives %s, want %s", body, path, raw, exp)
		}
	})
}

func BenchmarkSave(b *testing.B) {
	var body strings.Builder
	body.WriteString(`{"items": [`)
	for i := range 1000 {
		fmt.Fprintf(&body, `{"id": "item-%d", "n": %d},`, i, i)
	}
	body.WriteString(`null]}`)
	h := dispatch.HTTP{Method: "POST", URL: "https://example.com", Save: map[string]string{"v": "items.999.id"}}
	res := &httpsend.Response{Status: 200, Body: []byte(body.String())}
	b.ReportAllocs()
	for b.Loop() {
		if _, e := saved(h, res, nil); e != nil {
			b.Fatal(e)
		}
	}
}
