package routes

import (
	"slices"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpcall"
)

func credentialNames(f *file) []string {
	var out []string
	for _, c := range f.Credentials {
		out = append(out, c.name.value)
	}
	return out
}

// credentials checks what can be checked without the variables' values.
func (c *compiler) credentials(f *file) {
	for _, k := range f.Credentials {
		v := k.value
		ways := 0
		for _, there := range []bool{v.Bearer.node != nil, v.Basic != nil, v.OAuth2 != nil} {
			if there {
				ways++
			}
		}
		switch {
		case ways > 1:
			c.f.add(v.Node, "the credential %q has more than one of bearer, basic and oauth2, which are all the same header; needed is one", k.name.value)
		case ways == 0 && len(v.Query) == 0 && len(v.Header) == 0 && v.Node != nil:
			c.f.add(v.Node, "the credential %q has nothing; it needs one of bearer, basic, oauth2, query and header", k.name.value)
		}
		for _, h := range v.Hosts {
			if strings.Contains(h.value, "/") {
				c.f.add(h.node, "the host %q is an address; it has to be a host such as api.example.com, with or without a port", shortened(h.value))
			}
		}
		if o := v.OAuth2; o != nil && o.ClientSecret.node == nil && o.RefreshToken.node == nil {
			c.f.add(v.Node, "the oauth2 of the credential %q needs client_secret, refresh_token or both", k.name.value)
		}
	}
}

// Credentials reads the credentials of the file from the environment, by name.
// One that is optional is left out where a variable of it is not set. Its error is
// a *Problems, which names the variables that are not set and never a value.
func (r *Routes) Credentials(name string, o Options) (map[string]httpcall.Credential, error) {
	all, f := &findings{}, &findings{} // f has those of one credential
	secret := func(t text) dispatch.Secret {
		if t.node == nil {
			return ""
		}
		v := o.lookup(t.value)
		if v == "" {
			f.add(t.node, "the variable %s is not set; the credential needs it", t.value)
		}
		return dispatch.Secret(v)
	}
	secrets := func(named ordered[text]) map[string]dispatch.Secret {
		var out map[string]dispatch.Secret
		for _, e := range named {
			if out == nil {
				out = map[string]dispatch.Secret{}
			}
			out[e.name.value] = secret(e.value)
		}
		return out
	}
	out := map[string]httpcall.Credential{}
	for _, k := range r.file.Credentials {
		v := k.value
		f.list = nil
		one := httpcall.Credential{Bearer: secret(v.Bearer), Query: secrets(v.Query), Header: secrets(v.Header)}
		for _, h := range v.Hosts {
			one.Hosts = append(one.Hosts, h.value)
		}
		if b := v.Basic; b != nil {
			one.Basic = &httpcall.Basic{User: secret(b.User), Password: secret(b.Password)}
		}
		if a := v.OAuth2; a != nil {
			one.OAuth2 = &httpcall.OAuth2{
				TokenURL: a.TokenURL.value, ClientID: secret(a.ClientID).Reveal(),
				ClientSecret: secret(a.ClientSecret), RefreshToken: secret(a.RefreshToken), Style: a.Style.value,
			}
			for _, s := range a.Scopes {
				one.OAuth2.Scopes = append(one.OAuth2.Scopes, s.value)
			}
			for _, p := range a.Params {
				if one.OAuth2.Params == nil {
					one.OAuth2.Params = map[string]string{}
				}
				one.OAuth2.Params[p.name.value] = p.value.value
			}
		}
		switch {
		case len(f.list) == 0:
			out[k.name.value] = one
		case !v.Optional:
			all.list = append(all.list, f.list...)
		}
	}
	return out, all.problems(name)
}

// CredentialUse is a credential of the file, with the variables that it has its
// secrets from.
type CredentialUse struct {
	Name      string
	Variables []string
	Place
}

// CredentialUses are the credentials, in the order of the file.
func (r *Routes) CredentialUses() []CredentialUse {
	var out []CredentialUse
	for _, k := range r.file.Credentials {
		use := CredentialUse{Name: k.name.value, Place: placeIn(k.name.node, 0, 0)}
		v := k.value
		texts := []text{v.Bearer}
		if v.Basic != nil {
			texts = append(texts, v.Basic.User, v.Basic.Password)
		}
		if v.OAuth2 != nil {
			texts = append(texts, v.OAuth2.ClientID, v.OAuth2.ClientSecret, v.OAuth2.RefreshToken)
		}
		for _, e := range slices.Concat(v.Query, v.Header) {
			texts = append(texts, e.value)
		}
		for _, t := range texts {
			if t.node != nil {
				use.Variables = append(use.Variables, t.value)
			}
		}
		out = append(out, use)
	}
	return out
}

// Exposed is an environment variable that texts may read.
type Exposed struct {
	Name string
	Place
}

// Exposed are the variables of expose_env, in the order of the file.
func (r *Routes) Exposed() []Exposed {
	var out []Exposed
	for _, v := range r.file.ExposeEnv {
		out = append(out, Exposed{v.value, placeIn(v.node, 0, 0)})
	}
	return out
}

// Variables are the names of the environment variables that the file may read.
func (r *Routes) Variables() []string {
	var out []string
	for _, e := range r.Exposed() {
		out = append(out, e.Name)
	}
	slices.SortFunc(out, strings.Compare)
	return out
}
