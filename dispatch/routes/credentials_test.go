package routes

import (
	"maps"
	"slices"
	"testing"
)

// TestCredentials: which of them there are, and what is said of the others.
func TestCredentials(t *testing.T) {
	t.Parallel()
	r := load(t, `version: 1
credentials:
  ga4: {query: {api_secret: GA4_SECRET, extra: GA4_EXTRA}, optional: true}
  crm: {bearer: CRM_TOKEN}
routes:
  - {name: one, event: a, deliver: [{name: line, log: {text: x}}]}
`)
	for _, tt := range []struct {
		name, problem string
		env           map[string]string
		want          []string
	}{
		{"all set", "", map[string]string{"GA4_SECRET": "s", "GA4_EXTRA": "e", "CRM_TOKEN": "t"}, []string{"crm", "ga4"}},
		{"the optional one half set", "", map[string]string{"GA4_SECRET": "s", "CRM_TOKEN": "t"}, []string{"crm"}},
		{"neither", "r.yaml:4:17: the variable CRM_TOKEN is not set; the credential needs it", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := r.Credentials("r.yaml", Options{Env: func(name string) (string, bool) { v, ok := tt.env[name]; return v, ok }})
			if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, tt.want) {
				t.Errorf("got %v, want %v", names, tt.want)
			}
			if problem := reason(err); problem != tt.problem {
				t.Errorf("%s, want %s", problem, tt.problem)
			}
		})
	}
}
