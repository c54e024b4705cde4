package main

import (
	"maps"
	"net/url"
	"os"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// readRoutes reads the routes file that was named. What it names is looked up in
// the environment, where s has nothing of that name.
func (d *dev) readRoutes(s settings) (*ruleset, error) {
	all := map[string]string{}
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		all[name] = value
	}
	maps.Copy(all, s.env)
	all["OUTBOX_DEV_API_URL"] = d.standins.api.URL()
	return readRoutes(d.cmd.Routes, settings{env: all})
}

// only keeps requests from all addresses but those of the stand-ins. SMS and e-mail
// have nobody else to go to.
func (s *devStandins) only() (dispatch.Redirect, error) {
	words := []string{"+*", "@*"}
	for _, address := range []string{s.webhook.URL(), s.api.URL()} {
		u, err := url.Parse(address)
		if err != nil {
			return dispatch.Redirect{}, err
		}
		words = append(words, u.Host)
	}
	allow, err := dispatch.ParseRecipients(words)
	return dispatch.Redirect{Allow: allow}, err
}
