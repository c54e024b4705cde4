package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// CheckKey refuses a key that is none: an empty one, and the words that
// stand in examples.
func CheckKey(key dispatch.Secret) error {
	word := strings.Map(func(r rune) rune {
		if strings.ContainsRune("-_ .<>[]{}$\"'", r) {
			return -1
		}
		return r
	}, strings.ToLower(key.Reveal()))
	switch {
	case word == "":
		return errors.New("is empty")
	case len(word) < weakKey && slices.Contains(placeholders, strings.TrimRight(word, "0123456789!")),
		strings.Trim(word, word[:1]) == "",
		strings.HasPrefix(word, "changeme"), strings.HasPrefix(word, "replaceme"), strings.HasPrefix(word, "replacewith"),
		strings.HasPrefix(word, "yourapi"), strings.HasPrefix(word, "youradmin"), strings.HasPrefix(word, "yoursecret"):
		return errors.New("is a placeholder")
	}
	return nil
}

var placeholders = []string{
	"", "admin", "adminapikey", "adminkey", "adminsecret", "apikey", "default", "demo", "dev", "example", "foo", "key",
	"letmein", "local", "mysecret", "none", "null", "pass", "passw0rd", "password", "placeholder", "replace", "secret",
	"secretkey", "supersecret", "test", "testkey", "todo", "token", "undefined", "yourkey",
}

func sum(s string) [sha256.Size]byte { return sha256.Sum256([]byte(s)) }

// keyed serves requests that bring the key. Others are answered with 401,
// and after too many of them from one address with 429; whoever brings the
// right key is let in even so.
func (s *Server) keyed(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.authorized(r) {
			serve(w, r)
			return
		}
		n, wait := s.failures.add(r.RemoteAddr)
		if n == 1 || n == maxFailures+1 {
			s.cfg.Log.Warn("admin request without the right key", "from", r.RemoteAddr, "failures", n)
		}
		if n > maxFailures {
			w.Header().Set("Retry-After", strconv.Itoa(max(1, int(wait.Seconds()+0.999))))
			fail(w, http.StatusTooManyRequests, "too_many_requests")
			return
		}
		fail(w, http.StatusUnauthorized, "unauthorized")
	}
}

// authorized compares in constant time, whatever was sent. The key is looked
// for in authorization only where there is no x-api-key at all; a header that
// is there twice could mean two things to two programs, and counts as wrong.
func (s *Server) authorized(r *http.Request) bool {
	values := r.Header.Values("X-Api-Key")
	if len(values) == 0 {
		values = r.Header.Values("Authorization")
	}
	key := ""
	if len(values) == 1 {
		key = values[0]
	}
	const scheme = "bearer "
	if len(key) > len(scheme) && strings.EqualFold(key[:len(scheme)], scheme) {
		key = strings.TrimLeft(key[len(scheme):], " ")
	}
	got := sum(key)
	return subtle.ConstantTimeCompare(got[:], s.keySum[:]) == 1
}
