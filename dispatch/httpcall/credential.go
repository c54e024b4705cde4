package httpcall

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Credential is what a request carries to show who sends it. Of Bearer, Basic and
// OAuth2, which all become the header Authorization, at most one is set; Query and
// Header may go beside it.
type Credential struct {
	Bearer dispatch.Secret // a token that does not expire; "" means none
	Basic  *Basic
	OAuth2 *OAuth2
	Query  map[string]dispatch.Secret // parameters that the URL gets, such as api_secret
	Header map[string]dispatch.Secret // headers, such as x-api-key

	// Hosts are the only ones that get it: names without a port, or with one.
	// None means any host that a step names, which is dangerous where a payload
	// has a say in that.
	Hosts []string
}

// Basic is a user and password (RFC 7617), of which one may be "". Some services
// take a key as the user.
type Basic struct {
	User     dispatch.Secret // without a colon
	Password dispatch.Secret
}

// OAuth2 is how to get an access token: with client credentials (RFC 6749, 4.4), or
// with a refresh token (6) where there is one.
//
// Where a server answers with a new refresh token, that is used from then on, but
// it is not written down: after a restart the configured one is used again.
type OAuth2 struct {
	TokenURL     string
	ClientID     string
	ClientSecret dispatch.Secret // "" only with a RefreshToken
	RefreshToken dispatch.Secret // "" means client credentials
	Scopes       []string
	Params       map[string]string // more parameters of the token request, such as audience; only with client credentials

	// Style says how the client is named: "header" (Basic), "body", or "" to find
	// out, which costs a second request once.
	Style string
}

// Validate reports what keeps c from being used, in a sentence that begins with
// its name and has no secret in it.
func (c Credential) Validate(name string) error {
	if err := c.check(); err != nil {
		return fmt.Errorf("credential %q: %w", name, err)
	}
	if err := (dispatch.HTTP{Method: "GET", URL: "https://example.com", Credential: name}).Validate(); err != nil || name == "" {
		return fmt.Errorf(`credential %q: the name has to be of up to 64 letters, digits, "_", "-" and "."`, name)
	}
	return nil
}

func (c Credential) check() error {
	kinds := 0
	for _, set := range []bool{c.Bearer != "", c.Basic != nil, c.OAuth2 != nil} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return errors.New("it has several of bearer, basic and oauth2; they are one header, so that only one can be sent")
	case kinds == 0 && len(c.Query) == 0 && len(c.Header) == 0:
		return errors.New("it has nothing to send; it needs one of bearer, basic, oauth2, query and header")
	case !sendable(c.Bearer.Reveal()):
		return errors.New("bearer has a space, a control character or a letter outside ASCII in it")
	}
	if b := c.Basic; b != nil && (b.User == "" && b.Password == "" || strings.ContainsRune(b.User.Reveal(), ':')) {
		return errors.New("basic needs a user, without a colon, or a password")
	}
	if c.OAuth2 != nil {
		if err := c.OAuth2.check(); err != nil {
			return fmt.Errorf("oauth2: %w", err)
		}
	}
	for name, value := range c.Query {
		if name == "" || value == "" {
			return errors.New("query has a parameter without a name or without a value")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Header)) {
		value := c.Header[name].Reveal()
		// The rules are a request's own; that it may not set Authorization is not.
		h := dispatch.HTTP{Method: "GET", URL: "https://example.com", Headers: map[string]string{name: value}}
		lower := strings.ToLower(name)
		switch {
		case value == "":
			return fmt.Errorf("header: %q has no value", name)
		case lower == "authorization" && kinds > 0:
			return errors.New("header sets Authorization, which bearer, basic or oauth2 sets already")
		case lower == "authorization" || lower == "cookie":
			h.Headers = map[string]string{"x": value}
		}
		if err := h.Validate(); err != nil {
			return fmt.Errorf("header: %w", err)
		}
	}
	for _, host := range c.Hosts {
		if u, err := url.Parse("https://" + host); err != nil || u.Host != host || u.Hostname() == "" || strings.ContainsAny(host, " *") {
			return fmt.Errorf("hosts has %q in it; it has to be a host such as api.example.com, with or without a port", host)
		}
	}
	return nil
}

func (o *OAuth2) check() error {
	if err := (dispatch.HTTP{Method: "POST", URL: o.TokenURL}).Validate(); err != nil {
		return errors.New("the token URL has to be an address such as https://login.example.com/oauth2/token")
	}
	switch {
	case o.ClientID == "":
		return errors.New("it needs a client id")
	case o.ClientSecret == "" && o.RefreshToken == "":
		return errors.New("it needs a client secret or a refresh token")
	case o.Style != "" && o.Style != "header" && o.Style != "body":
		return errors.New(`the style has to be "header", "body" or none`)
	case len(o.Params) > 0 && o.RefreshToken != "":
		return errors.New("more parameters do not go with a refresh token")
	}
	for name := range o.Params {
		switch name {
		case "grant_type", "scope", "client_id", "client_secret", "":
			return fmt.Errorf("the parameter %q is set otherwise", name)
		}
	}
	return nil
}

// sendable reports whether s is visible ASCII, as a token in a header has to be.
func sendable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// credential is a Credential in use.
type credential struct {
	Credential
	name   string
	tokens *tokens // nil without OAuth2
}

func (s *Sender) newCredential(name string, c Credential) *credential {
	kept := &credential{Credential: c.clone(), name: name}
	if c.OAuth2 != nil {
		kept.tokens = newTokens(name, *kept.OAuth2, s.client, s.now)
	}
	return kept
}

func (c Credential) clone() Credential {
	if c.Basic != nil {
		basic := *c.Basic
		c.Basic = &basic
	}
	if c.OAuth2 != nil {
		o := *c.OAuth2
		o.Scopes, o.Params = slices.Clone(o.Scopes), maps.Clone(o.Params)
		c.OAuth2 = &o
	}
	c.Query, c.Header, c.Hosts = maps.Clone(c.Query), maps.Clone(c.Header), slices.Clone(c.Hosts)
	return c
}

// same reports whether c was made from other.
func (c *credential) same(other Credential) bool { return reflect.DeepEqual(c.Credential, other) }

// token returns the access token for a request, "" where none is needed; fresh
// says that it comes straight from its endpoint.
func (c *credential) token(ctx context.Context) (token string, fresh bool, e *dispatch.Error) {
	if c == nil || c.tokens == nil {
		return "", false, nil
	}
	return c.tokens.get(ctx)
}

// apply puts c onto req. What the step has set itself is never replaced.
func (c *credential) apply(req *http.Request, h dispatch.HTTP, token string) error {
	if !c.GoesTo(req.URL) {
		return fmt.Errorf("the credential %s is not for this host; its hosts are %s", c.name, strings.Join(c.Hosts, ", "))
	}
	if len(c.Query) > 0 {
		set := req.URL.Query()
		for name := range c.Query {
			if set.Has(name) {
				return fmt.Errorf("the URL has the parameter %s, which the credential %s sets", name, c.name)
			}
		}
		// The bytes that are there stay: some receivers care for their order.
		more := url.Values{}
		for name, value := range c.Query {
			more.Set(name, value.Reveal())
		}
		if req.URL.RawQuery != "" {
			req.URL.RawQuery += "&"
		}
		req.URL.RawQuery += more.Encode()
	}
	for name, value := range c.Header {
		if req.Header.Get(name) != "" {
			return fmt.Errorf("the step sets the header %s, which the credential %s sets", name, c.name)
		}
		req.Header.Set(name, value.Reveal())
	}
	switch {
	case token != "":
		req.Header.Set("Authorization", "Bearer "+token)
	case c.Bearer != "":
		req.Header.Set("Authorization", "Bearer "+c.Bearer.Reveal())
	case c.Basic != nil:
		req.SetBasicAuth(c.Basic.User.Reveal(), c.Basic.Password.Reveal())
	}
	return nil
}

// GoesTo reports whether c may be sent to u: it has no hosts, or one of them is that of
// u, with its port or without.
func (c Credential) GoesTo(u *url.URL) bool {
	return len(c.Hosts) == 0 || slices.ContainsFunc(c.Hosts, func(host string) bool {
		return strings.EqualFold(host, u.Host) || strings.EqualFold(host, u.Hostname())
	})
}

// secrets are what c adds to a request and what it has for that, in the ways in
// which an answer may repeat it; the longest first.
func (c *credential) secrets(token string) []string {
	if c == nil {
		return nil
	}
	all := []dispatch.Secret{dispatch.Secret(token), c.Bearer}
	if b := c.Basic; b != nil {
		secret := b.Password
		if secret == "" {
			secret = b.User
		}
		pair := []byte(b.User.Reveal() + ":" + b.Password.Reveal())
		all = append(all, secret, dispatch.Secret(base64.StdEncoding.EncodeToString(pair)))
	}
	if c.OAuth2 != nil {
		all = append(all, c.OAuth2.ClientSecret, c.OAuth2.RefreshToken)
	}
	all = slices.AppendSeq(all, maps.Values(c.Query))
	all = slices.AppendSeq(all, maps.Values(c.Header))
	var texts []string
	for _, s := range all {
		if len(s) > 3 { // less is no secret, and would be found in everything
			texts = append(texts, s.Reveal(), url.QueryEscape(s.Reveal()))
		}
	}
	slices.SortFunc(texts, func(a, b string) int { return len(b) - len(a) })
	return texts
}
