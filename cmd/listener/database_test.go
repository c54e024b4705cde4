package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

func TestParseDatabase(t *testing.T) {
	pc, err := parseDatabase("postgres://u:p@h/db", false)
	if err != nil {
		t.Fatal(err)
	}
	if pc.MaxConns < leastConns || pc.PingTimeout == 0 || pc.ConnConfig.ConnectTimeout == 0 || pc.ConnConfig.RuntimeParams["application_name"] != applicationName {
		t.Errorf("%d connections, ping %s, connect %s, %v", pc.MaxConns, pc.PingTimeout, pc.ConnConfig.ConnectTimeout, pc.ConnConfig.RuntimeParams)
	}
	pc, err = parseDatabase("postgres://u:p@h/db?pool_max_conns=5&pool_ping_timeout=1s&connect_timeout=2&application_name=mine", false)
	if err != nil {
		t.Fatal(err)
	}
	if pc.MaxConns != 5 || pc.PingTimeout.Seconds() != 1 || pc.ConnConfig.ConnectTimeout.Seconds() != 2 || pc.ConnConfig.RuntimeParams["application_name"] != "mine" {
		t.Errorf("%d connections, ping %s, connect %s, %v", pc.MaxConns, pc.PingTimeout, pc.ConnConfig.ConnectTimeout, pc.ConnConfig.RuntimeParams)
	}
}

func TestParseDatabaseShowsNothing(t *testing.T) {
	for _, url := range []string{
		"postgres://u:canary@h:x/db",
		"postgres://u:can/ary?x=canary@h/db",
		"postgres://u:canary%zz@h/db",
		"postgres://u:canary@[h/db",
		"postgres://u@h/db?password=canary&sslmode=canary",
		"postgres://u@h/db?sslmode=require&sslrootcert=/nowhere/ca.pem&password=canary",
		"postgres://u:canary@h/db?pool_max_conns=canary",
		"postgres://u:canary@h/db?connect_timeout=canary",
		"postgres://u:canary@h/db?target_session_attrs=canary",
		"host=h password='canary",
		"host=h password=canary port=canary",
		"canary",
		"canary`: canary",
	} {
		_, err := parseDatabase(dispatch.Secret(url), false)
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestWithTLS(t *testing.T) {
	for _, tt := range []struct{ env, in, want string }{
		{"", "postgres://u:p@h/db", "postgres://u:p@h/db?sslmode=require"},
		{"", "postgres://u:p@h/db?application_name=a", "postgres://u:p@h/db?application_name=a&sslmode=require"},
		{"", "postgres://u:p@h/db?sslmode=disable", "postgres://u:p@h/db?sslmode=disable"},
		{"", "host=h password=sslmode", "host=h password=sslmode sslmode=require"},
		{"", "host=h sslmode=verify-full", "host=h sslmode=verify-full"},
		{"verify-full", "postgres://h/db", "postgres://h/db"},
		{"prefer", "postgres://h/db", "postgres://h/db?sslmode=require"},
	} {
		t.Setenv("PGSSLMODE", tt.env)
		if got := withTLS(tt.in); got != tt.want {
			t.Errorf("%s: %s; want %s", tt.in, got, tt.want)
		}
	}
	t.Setenv("PGSSLMODE", "")
	if pc, err := parseDatabase("postgres://h/db", true); err != nil || pc.ConnConfig.TLSConfig == nil || len(pc.ConnConfig.Fallbacks) > 0 {
		t.Errorf("without TLS, or with a way around it: %v", err)
	}
}

func TestPlaintext(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	for _, tt := range []struct{ url, want string }{
		{"postgres://db.example.com/db", "db.example.com"},
		{"postgres://db.example.com/db?sslmode=disable", "db.example.com"},
		{"postgres://db.example.com/db?sslmode=require", ""},
		{"postgres://localhost,10.0.0.1/db", "10.0.0.1"},
		{"postgres://localhost/db", ""},
		{"postgres://127.0.0.1/db", ""},
		{"postgres://[::1]/db", ""},
		{"postgres:///db?host=/run/postgresql", ""},
	} {
		pc, err := parseDatabase(dispatch.Secret(tt.url), false)
		if err != nil {
			t.Fatal(err)
		}
		if got := plaintext(pc); got != tt.want {
			t.Errorf("%s: %q; want %q", tt.url, got, tt.want)
		}
	}
}

func TestPasses(t *testing.T) {
	sqlstate := func(code string) error {
		return &databaseError{fmt.Errorf("failed to connect: %w", &pgconn.PgError{Code: code}), "cannot work with the database: ", false}
	}
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"wrong password", sqlstate("28P01"), false},
		{"not in pg_hba.conf", sqlstate("28000"), false},
		{"unknown database", sqlstate("3D000"), false},
		{"a parameter that nobody knows", sqlstate("42704"), false},
		{"starting up", sqlstate("57P03"), true},
		{"too many connections", sqlstate("53300"), true},
		{"nobody there", &databaseError{fmt.Errorf("dial: %w", errors.New("connection refused")), "", false}, true},
		{"too slow", &databaseError{fmt.Errorf("ping: %w", context.DeadlineExceeded), "", false}, true},
		{"no TLS there", &databaseError{fmt.Errorf("dial: %w", errors.New("server refused TLS connection")), "", false}, false},
		{"somebody else", &databaseError{fmt.Errorf("dial: %w", &tls.CertificateVerificationError{Err: errors.New("x509")}), "", false}, false},
		{"no schema", &databaseError{errors.New("schema outbox is missing"), "the database is not ready: ", true}, false},
		{"cut off at the first question", &databaseError{io.ErrUnexpectedEOF, "cannot work with the database: ", false}, true},
		{"cut off within the check", &databaseError{fmt.Errorf("checking the schema: %w", io.ErrUnexpectedEOF), "the database is not ready: ", true}, true},
	} {
		if got := passes(tt.err); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}
