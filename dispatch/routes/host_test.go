package routes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestExposed: which steps let an event say who gets a credential.
func TestExposed(t *testing.T) {
	t.Parallel()
	const file = `version: 1
expose_env: [API_URL]
credentials:
  api: {bearer: API_TOKEN}
  kept: {bearer: API_TOKEN, hosts: [api.test]}
let:
  site: '{{env "API_URL" | default "https://api.test"}}'
  base: '{{.site}}'
  by: '{{.payload.host}}'
routes:
  - name: r
    event: x
    lookup: {row: {sql: select 1 as url}}
    let: {own: '{{.base}}', from: 'https://{{.by}}'}
    deliver:
      - {name: s, http: {url: 'URL', credential: CREDENTIAL, body: x}}
`
	for _, tt := range []struct {
		url  string
		want bool
	}{
		{`https://api.test/a/{{url .payload.id}}`, false},
		{`https://api.test?{{.payload.id}}`, false},
		{`https://api.test`, false},
		{`{{env "API_URL"}}/a/{{.payload.id}}`, false},
		{`{{env "API_URL" | default "https://api.test"}}/mp?q={{.payload.id}}`, false},
		{`{{.site}}/a/{{.payload.id}}`, false},
		{`{{.own}}/a/{{.payload.id}}`, false},
		{`https://api.test:8443/{{.payload.id}}`, false},
		{`{{.payload.url}}`, true},
		{`{{.row.url}}/a`, true},
		{`{{.from}}/a`, true},
		{`https://{{.by}}/a`, true},
		{`https://{{.payload.tenant}}.api.test/a`, true},
		{`https://api.test{{.payload.rest}}`, true},
		{`https://api.test@{{.payload.host}}/`, true},
		{`{{if .payload.url}}{{.payload.url}}{{else}}https://api.test/{{end}}`, true},
	} {
		for _, credential := range []string{"api", "kept"} {
			r := load(t, strings.NewReplacer("URL'", strings.ReplaceAll(tt.url, "'", "''")+"'", "CREDENTIAL", credential).Replace(file))
			want := tt.want && credential == "api"
			if got := r.Channels()[0].Exposed; got != want {
				t.Errorf("%s with %s: %t, want %t", tt.url, credential, got, want)
			}
		}
	}
}

// only answers the lookup of that name. It may be asked by several at once.
type only string

func (o only) Read(_ context.Context, f func(Moment) error) error { return f(o) }
func (o only) Now() time.Time                                     { return noon }

func (o only) Rows(_ context.Context, l Lookup, _ map[string]json.RawMessage, _ int) ([]json.RawMessage, error) {
	if l.Name != string(o) {
		return nil, fmt.Errorf("%s is asked for %s", string(o), l.Name)
	}
	return []json.RawMessage{json.RawMessage(`{"n": 1}`)}, nil
}

// TestReplaceTogether: a file is never planned with the facts of another one.
func TestReplaceTogether(t *testing.T) {
	t.Parallel()
	var files [2]*Routes
	var answers [2]Facts
	for i := range files {
		name := fmt.Sprintf("row%d", i)
		files[i] = load(t, fmt.Sprintf("version: 1\nroutes:\n  - {name: r, event: x, lookup: {%s: {sql: select 1 as n}}, deliver: [{name: s, log: {text: '{{.%[1]s.n}}'}}]}\n", name))
		answers[i] = only(name)
	}
	router := NewRouter(files[0], answers[0], nil)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
				router.Replace(files[i%2], answers[i%2])
			}
		}
	}()
	var wrong []string
	for range 3000 {
		ms, err := router.Plan(t.Context(), event("x", "{}"))
		if err != nil || len(ms) != 1 || string(ms[0].Content) != `{"text":"1"}` {
			wrong = append(wrong, fmt.Sprint(ms, err))
		}
	}
	close(stop)
	<-done
	if len(wrong) > 0 {
		t.Errorf("%d times, such as %s", len(wrong), slices.Min(wrong))
	}
}
