package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/migrations"
)

// How the program connects, where the URL does not say otherwise.
const (
	applicationName = "outbox-listener"
	connectTimeout  = 5 * time.Second // for one address of the server
	pingTimeout     = 5 * time.Second
	leastConns      = 8 // in the pool: claims, records, leases, heartbeats and probes side by side
	neededConns     = 4 // fewer, and they would wait for each other
)

// parseDatabase reads a database URL. With ssl, TLS is asked for unless the
// URL says something about it. The error tells what is wrong and repeats
// nothing of the URL.
func parseDatabase(address dispatch.Secret, ssl bool) (*pgxpool.Config, error) {
	text := address.Reveal()
	if ssl {
		text = withTLS(text)
	}
	pc, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, errors.New("cannot be read: " + parseReason(err))
	}
	if _, ok := pc.ConnConfig.RuntimeParams["application_name"]; !ok {
		pc.ConnConfig.RuntimeParams["application_name"] = applicationName
	}
	if pc.ConnConfig.ConnectTimeout == 0 {
		pc.ConnConfig.ConnectTimeout = connectTimeout
	}
	if pc.PingTimeout == 0 {
		pc.PingTimeout = pingTimeout
	}
	if !strings.Contains(text, "pool_max_conns") {
		pc.MaxConns = max(pc.MaxConns, leastConns)
	}
	return pc, nil
}

// withTLS adds sslmode=require to a database URL, unless it names an sslmode,
// or the environment names one that asks for TLS already.
func withTLS(text string) string {
	switch os.Getenv("PGSSLMODE") { // pgx reads it, as every client does
	case "require", "verify-ca", "verify-full":
		return text
	}
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		if keywordSSL.MatchString(text) {
			return text
		}
		return text + " sslmode=require"
	}
	_, query, ok := strings.Cut(text, "?")
	if values, err := url.ParseQuery(query); err == nil && values.Has("sslmode") {
		return text
	}
	if !ok {
		return text + "?sslmode=require"
	}
	return strings.TrimSuffix(text, "&") + "&sslmode=require"
}

var keywordSSL = regexp.MustCompile(`(^|\s)sslmode\s*=`)

// phrase is the part of pgx's parse errors that is pgx's own.
var phrase = regexp.MustCompile("^cannot parse `(?s:.*)`: ([a-zA-Z_/ -]+)")

// parseReason says why a URL cannot be read, in pgx's words as far as those
// cannot hold parts of the URL: what pgx repeats of it, it masks as well as
// it can, and that is not enough for a log.
func parseReason(err error) string {
	m := phrase.FindStringSubmatch(err.Error())
	if m == nil {
		return "it is malformed"
	}
	reason := strings.TrimSpace(m[1])
	if reason == "failed to configure TLS" {
		if cause := errors.Unwrap(err); cause != nil {
			reason += ": " + cause.Error() // names sslmode or the file of a certificate
		}
	}
	return reason
}

// plaintext names the host of a connection that goes over a network and may
// go without TLS; "" when there is none.
func plaintext(pc *pgxpool.Config) string {
	c := pc.ConnConfig
	if c.TLSConfig == nil && remote(c.Host) {
		return c.Host
	}
	for _, f := range c.Fallbacks {
		if f.TLSConfig == nil && remote(f.Host) {
			return f.Host
		}
	}
	return ""
}

// remote reports whether host is on another machine, as far as its name
// tells.
func remote(host string) bool {
	if host == "" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || strings.EqualFold(host, "localhost") {
		return false
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback()
}

// tryTimeout bounds one try to reach the database and to check its schema.
const tryTimeout = 15 * time.Second

// awaitDatabase returns once the database answers and has the schema that we
// need. While it cannot be reached, it is tried again until ctx ends if
// patient; what a person has to mend is returned at once. waiting is called
// before each wait.
func awaitDatabase(ctx context.Context, pool *pgxpool.Pool, patient bool, log *slog.Logger, waiting func()) error {
	var said time.Time
	for tries := 0; ; tries++ {
		err := tryDatabase(ctx, pool)
		if err == nil || ctx.Err() != nil || !patient || !passes(err) {
			return err
		}
		if time.Since(said) >= time.Second {
			said = time.Now()
			log.Warn("database not ready; trying again", "error", oneLine(err.Error()))
		}
		waiting()
		timer := time.NewTimer(pauseBefore(tries))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// pauseBefore is the wait after a failed try: from a tenth of a second up to two
// seconds, with jitter. A server that comes back after long has its first delivery within
// five seconds, which docs/guarantees.md promises: the rest is for connecting and claiming.
func pauseBefore(tries int) time.Duration {
	d := min(100*time.Millisecond<<min(tries, 5), 2*time.Second)
	return d/2 + rand.N(d/2)
}

// databaseError is the error of a database that cannot be worked with.
type databaseError struct {
	err     error
	what    string
	checked bool // by the schema check, which the connection got as far as
}

func (e *databaseError) Error() string { return e.what + oneLine(e.err.Error()) }
func (e *databaseError) Unwrap() error { return e.err }

func tryDatabase(ctx context.Context, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	if err := pool.Ping(ctx); err != nil {
		return &databaseError{err, "cannot work with the database: ", false}
	}
	if err := migrations.Check(ctx, pool); err != nil {
		return &databaseError{err, "the database is not ready: ", true}
	}
	return nil
}

// passes reports whether err may go away by itself. A refused login, an
// unknown database, a parameter that the server does not know, refused TLS and
// a schema that lacks something do not.
func passes(err error) bool {
	if e, ok := errors.AsType[*databaseError](err); ok && e.checked && errors.Unwrap(e.err) == nil {
		if _, ok := errors.AsType[*pgconn.PgError](e.err); !ok {
			return false // the verdict of the schema check
		}
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(e.Code, "28"), e.Code == "3D000", e.Code == "42501", e.Code == "42704", e.Code == "22023":
			return false
		}
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return false
	}
	return !strings.Contains(err.Error(), "server refused TLS connection")
}
