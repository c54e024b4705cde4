package listener_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/migrations"
)

// TestLatin1Database: payloads leave as UTF-8, whatever encoding the database
// stores them in.
func TestLatin1Database(t *testing.T) {
	t.Parallel()
	utf8 := pgtest.Empty(t)
	name := utf8.Name + "_l1"
	pgtest.Exec(t, utf8, `create database `+name+` encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0`)
	t.Cleanup(func() { pgtest.Exec(t, utf8, `drop database `+name+` with (force)`) })
	db := &pgtest.DB{URL: strings.Replace(utf8.URL, utf8.Name, name, 1), Name: name}
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := migrations.Up(t.Context(), conn, migrations.Options{}); err != nil {
		t.Fatal(err)
	}
	if db.Pool, err = pgxpool.New(t.Context(), db.URL); err != nil {
		t.Fatal(err)
	}
	defer db.Pool.Close()
	d, p := dispatch.New(), newProvider(nil)
	channel(d, "greeting", "carrier", p, plain)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('greeting', jsonb_build_object('t', chr(252)))`)
	if _, err := newListener(t, db, d, nil).Once(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if p.count() != 1 || string(p.sent[0].Content) != `{"t": "ü"}` {
		t.Errorf("sent %d: %+v", p.count(), p.sent)
	}
}
