package listener_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/sql"
)

// TestRetention: a daemon deletes what is too old while it delivers, and one
// that runs once does so before it ends.
func TestRetention(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, l *listener.Listener)
	}{
		{"daemon", func(t *testing.T, l *listener.Listener) { start(t, l) }},
		{"once", func(t *testing.T, l *listener.Listener) {
			if st, err := l.Once(t.Context(), 0); err != nil || st.Processed != 1 {
				t.Errorf("%+v, %v", st, err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
			channel(d, "greeting", "carrier", p, plain)
			pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at, processed_at)
				select 'greeting', '{}', now() - n * interval '1 day', now() - n * interval '1 day' from generate_series(40, 1, -1) as n`)
			pgtest.Exec(t, db, `insert into outbox.deliveries
				(id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, created_at, finished_at)
				select overlay(md5(id::text) placing encode(substr(int8send(seq), 3), 'hex') from 1 for 12)::uuid, id, seq, type, created_at, '', '', '', '', 'delivered', 1, created_at, created_at from outbox_events`)
			insert(t, db, "greeting", `{}`)
			tt.run(t, newListener(t, db, d, func(c *listener.Config) { c.RetainProcessed = 10*24*time.Hour + time.Hour }))
			pgtest.Eventually(t, 15*time.Second, func() (bool, string) {
				got := pgtest.QueryVal[string](t, db, `select (select count(*) from outbox_events where processed_at is not null) || ' events, '
					|| (select count(*) from outbox.deliveries) || ' deliveries'`)
				return got == "11 events, 30 deliveries", got // the day 30 itself is over by a moment
			})
		})
	}
}

// TestRetentionWithoutTheRight: a role that may not delete events delivers
// all the same, and the log says which grant is missing.
func TestRetentionWithoutTheRight(t *testing.T) {
	t.Parallel()
	db, d, p := pgtest.New(t), dispatch.New(), newProvider(nil)
	channel(d, "greeting", "carrier", p, plain)
	role := pgtest.Role(t, db, "daemon")
	pgtest.Exec(t, db, sql.Grants(role))
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at, processed_at) values ('old', '{}', now() - interval '1 day', now() - interval '1 day')`)
	insert(t, db, "greeting", `{}`)
	pc, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	pc.ConnConfig.User, pc.ConnConfig.Password = role, "secret"
	pool, err := pgxpool.NewWithConfig(t.Context(), pc)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	once := func(about string) []map[string]any {
		t.Helper()
		var out lines
		l := newListener(t, db, d, func(c *listener.Config) {
			c.Pool, c.RetainProcessed, c.Log = pool, time.Hour, slog.New(slog.NewJSONHandler(&out, nil))
		})
		if _, err := l.Once(t.Context(), 0); err != nil {
			t.Errorf("Once: %v", err)
		}
		return out.about(t, about)
	}
	said := once("public.outbox_events")
	if len(said) != 1 || said[0]["level"] != "WARN" ||
		!strings.HasPrefix(fmt.Sprint(said[0]["mend"]), `grant delete on public.outbox_events to "`+role+`"`) {
		t.Errorf("the log has %v", said)
	}
	if p.count() != 1 {
		t.Errorf("%d sent", p.count())
	}
	mend, _, _ := strings.Cut(fmt.Sprint(said[0]["mend"]), ",")
	pgtest.Exec(t, db, mend)
	pgtest.Exec(t, db, `revoke delete on outbox.attempts from `+role) // as an older version left it
	said = once("outbox.deliveries")
	if len(said) != 1 || !strings.Contains(fmt.Sprint(said[0]["mend"]), "listener migrate --grant") {
		t.Errorf("the log has %v", said)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where type = 'old'`); n != 0 {
		t.Error("the old event is there after the grant")
	}
}

// lines is a log of JSON lines.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// about returns the lines that have a word in their message.
func (l *lines) about(t *testing.T, word string) (found []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(l.buf.Bytes()) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if strings.Contains(fmt.Sprint(m["msg"]), word) {
			found = append(found, m)
		}
	}
	return found
}
