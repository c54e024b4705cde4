package dispatch

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Limits of what an HTTP keeps of the answer.
const (
	MaxSaved     = 32  // names
	MaxSavedPath = 256 // bytes
)

// httpMethods are the methods that an HTTP may have. They are written in capitals,
// as they are sent.
var httpMethods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// Validate reports what keeps h from being sent, in a sentence that names the key
// and what is accepted, and that has nothing of the content in it.
//
// It does not look the host or the credential up.
func (h HTTP) Validate() error {
	if !slices.Contains(httpMethods, h.Method) {
		return fmt.Errorf(`the key "method" has to be one of %s, in capitals`, strings.Join(httpMethods, ", "))
	}
	if err := validURL(h.URL, `"credential"`); err != nil {
		return fmt.Errorf(`the key "url" %w`, err)
	}
	if h.Method == http.MethodGet && h.Body != "" {
		return errors.New(`the key "body" goes with a GET, which has none; put what it says into the URL, or use POST`)
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		if mend := mends[strings.ToLower(name)]; mend != "" {
			return fmt.Errorf(`the key "headers" sets %s, which cannot be set there; %s`, strings.ToLower(name), mend)
		}
	}
	if err := validHTTPHeaders(h.Headers, connectionHeaders, ownHTTPPrefixes); err != nil {
		return err
	}
	if h.Credential != "" && !credentialName.MatchString(h.Credential) {
		return errors.New(`the key "credential" has to be a name of up to 64 letters, digits, "_", "-" and "."`)
	}
	if err := h.validSuccess(); err != nil {
		return err
	}
	if err := h.validIdempotencyKey(); err != nil {
		return err
	}
	return h.validSave()
}

// mends say what to use instead of a header that is often wanted.
var mends = map[string]string{
	"authorization":     `use "credential", which keeps the secret out of the database`,
	"cookie":            `use "credential", which keeps the secret out of the database`,
	"idempotency-key":   `use "idempotency_key", which sends the same value with each attempt`,
	"x-idempotency-key": `use "idempotency_key", which sends the same value with each attempt`,
}

var (
	ownHTTPPrefixes = []string{"proxy-"}
	credentialName  = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	savedName       = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
)

func (h HTTP) validSuccess() error {
	for i, status := range h.Success {
		// 1xx are no answers, they precede one.
		if status < 200 || status > 599 {
			return errors.New(`the key "success" has a number in it that is no status code from 200 to 599`)
		}
		if slices.Contains(h.Success[:i], status) {
			return fmt.Errorf(`the key "success" has %d twice`, status)
		}
	}
	return nil
}

func (h HTTP) validIdempotencyKey() error {
	name := strings.ToLower(h.IdempotencyKey)
	switch {
	case name == "":
	case !token(name) || len(name) > 76:
		return errors.New(`the key "idempotency_key" has to be the name of a header, such as Idempotency-Key`)
	case reserved(name, append([]string{"authorization", "cookie", "content-type", "user-agent"}, connectionHeaders...), ownHTTPPrefixes) != "":
		return errors.New(`the key "idempotency_key" names a header that says something else; it is often Idempotency-Key`)
	default:
		for set := range h.Headers {
			if strings.ToLower(set) == name {
				return errors.New(`the keys "idempotency_key" and "headers" name the same header`)
			}
		}
	}
	return nil
}

func (h HTTP) validSave() error {
	if len(h.Save) > MaxSaved {
		return fmt.Errorf(`the key "save" has %d names; at most %d are accepted`, len(h.Save), MaxSaved)
	}
	for name, path := range h.Save {
		switch {
		case !savedName.MatchString(name):
			return errors.New(`the key "save" has a name in it that is none; up to 64 letters, digits and "_" are accepted, and no digit first`)
		case len(path) > MaxSavedPath:
			return fmt.Errorf(`the key "save" has a path of %d bytes; at most %d are accepted`, len(path), MaxSavedPath)
		case path == "" || slices.Contains(strings.Split(path, "."), ""):
			return errors.New(`the key "save" has a path with an empty part; a path is keys and positions with dots between, such as data.id or items.0.id`)
		}
	}
	return nil
}

// Repeatable reports whether a second request does no harm: by its method (RFC
// 9110, 9.2.2), by a key that the receiver tells repeats apart by, or because the
// route says so. Whoever plans such a delivery sets Retries.OnUnknown to Resend,
// since the channel's policy is Hold.
func (h HTTP) Repeatable() bool {
	switch h.Method {
	case http.MethodGet, http.MethodPut, http.MethodDelete:
		return true
	}
	return h.Idempotent || h.IdempotencyKey != ""
}
