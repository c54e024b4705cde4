package routes

import (
	"net/url"
	"slices"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch/httpcall"
)

// goesAnywhere reports whether there is a credential of that name that names no
// hosts.
func (c *compiler) goesAnywhere(name string) bool {
	return slices.ContainsFunc(c.r.file.Credentials, func(k entry[credential]) bool { return k.name.value == name && len(k.value.Hosts) == 0 })
}

// eventNamesHost reports whether the host of a URL is made of something that comes
// with an event, or of a row that an event has chosen: of anything but the file
// itself and the environment.
func (c *compiler) eventNamesHost(address text) bool {
	if address.node == nil {
		return false
	}
	t, err := c.set.Text("url", hostPart(address.value))
	if err != nil { // it is within {{if}}, say: then all of it counts
		if t, err = c.set.Text("url", address.value); err != nil {
			return false // which was said
		}
	}
	return slices.ContainsFunc(t.Paths(), c.ofEvent)
}

// ofEvent reports whether what a template reads at path comes with an event.
func (c *compiler) ofEvent(path []string) bool {
	if len(path) == 0 {
		return true
	}
	i := slices.IndexFunc(c.route.lets, func(l let) bool { return l.name == path[0] })
	if i < 0 {
		return true
	}
	t := c.route.lets[i].tmpl // reads only those before it
	return t != nil && slices.ContainsFunc(t.Paths(), c.ofEvent)
}

// hostPart is the beginning of a URL's template: what comes before the path.
func hostPart(source string) string {
	at := 0
	if scheme := strings.Index(source, "://"); scheme >= 0 && !strings.ContainsAny(source[:scheme], "{/?#") {
		at = scheme + len("://")
	}
	for at < len(source) {
		switch {
		case strings.HasPrefix(source[at:], "{{"):
			end := strings.Index(source[at:], "}}")
			if end < 0 {
				return source
			}
			at += end + len("}}")
		case strings.IndexByte("/?#", source[at]) >= 0:
			return source[:at]
		default:
			at++
		}
	}
	return source
}

// credentialHost notes a URL whose host stands in the file and is none of those that
// its credential goes to.
func (c *compiler) credentialHost(h *request) {
	fixed := hostPart(h.URL.value)
	u, err := url.Parse(fixed)
	if err != nil || u.Host == "" || strings.Contains(fixed, "{{") {
		return
	}
	for _, k := range c.r.file.Credentials {
		if k.name.value != h.Credential.value || len(k.value.Hosts) == 0 {
			continue
		}
		var allowed httpcall.Credential
		for _, host := range k.value.Hosts {
			if strings.Contains(host.value, "/") {
				return // which was said
			}
			allowed.Hosts = append(allowed.Hosts, host.value)
		}
		if !allowed.GoesTo(u) {
			c.f.add(h.URL.node, "the credential %s is not for the host %s; its hosts are %s", k.name.value, shortened(u.Host), listed(allowed.Hosts))
		}
	}
}
