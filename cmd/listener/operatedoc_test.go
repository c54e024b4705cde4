package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/listener/admin"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// TestOperatePage does what docs/operate.md says, with a few deliveries that
// went wrong; see doPage.
func TestOperatePage(t *testing.T) {
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (id, type, payload, created_at, processed_at, lease_until)
		select ('00000000-0000-4000-8000-00000000000' || t.n)::uuid, t.type, '{}', '2026-12-01 09:00Z', case when t.n < 4 then timestamptz '2026-12-01 09:01Z' end, case when t.n >= 4 then timestamptz 'infinity' end
		from (values (1, 'quote.sent'), (2, 'quote.sent'), (3, 'quote.sent'), (4, 'visit.due'), (5, 'visit.due')) as t (n, type) order by t.n`)
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
			state, attempts, last_error, content, due_at, created_at, finished_at)
		select ('00000000-000' || e.seq || '-8000-8000-00000000000' || e.seq)::uuid, e.id, e.seq, e.type, e.created_at, 'direct', t.channel, t.channel, t.recipient,
			t.state, t.attempts, t.error, '{}', case when t.state = 'retry' then timestamptz '2026-12-01 12:00Z' end, timestamptz '2026-12-01 09:00Z',
			case when t.state in ('dead', 'delivered') then timestamptz '2026-12-01 09:01Z' end
		from (values
			(1, 'email', 'a***@example.com', 'dead', 1, '552 5.2.2 mailbox full'),
			(2, 'sms', '+1*******12', 'dead', 12, 'no attempts left: 30003 unreachable'),
			(3, 'email', 'b***@example.com', 'delivered', 1, null),
			(4, 'sms', '+1*******34', 'held', 1, 'may have arrived: no clear answer came'),
			(5, 'email', 'c***@example.com', 'retry', 2, '450 4.7.1 try again later'))
			as t (n, channel, recipient, state, attempts, error)
		join outbox_events as e on e.seq = t.n order by e.seq`)
	pgtest.Exec(t, db, `insert into outbox.attempts (delivery_id, attempt, took, state, kind)
		select id, n, '0', 'retry', 'rejected' from outbox.deliveries, generate_series(1, attempts) as n where state in ('dead', 'retry')`)
	pgtest.Exec(t, db, `update outbox.deliveries set stuck_at = '2026-12-01 09:01Z' where state in ('dead', 'held')`)
	doPage(t, "operate.md", db, 12, map[string]string{"DATABASE_URL": db.URL})
}

// posted makes the requests in a block of a page: a line with method and path,
// one with the body, an empty one, and what is answered. It returns the block with
// the answers that came.
func posted(t *testing.T, db *pgtest.DB, block string) string {
	t.Helper()
	lines := strings.SplitN(block, "\n", 4)
	if len(lines) != 4 || lines[2] != "" {
		t.Fatalf("no request: %s", block)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	operator := operate.New(db.Pool)
	server, err := admin.New(admin.Config{
		Key: "a-key-for-the-pages-of-docs", Look: operator, Operate: operator.Do, Pause: operator.Pause,
		Drain:  func(context.Context, int) (listener.Stats, error) { return listener.Stats{}, nil },
		Health: func() listener.Health { return listener.Health{} },
		Ping:   db.Pool.Ping,
		Log:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	method, path, _ := strings.Cut(lines[0], " ")
	req, err := http.NewRequest(method, "http://"+l.Addr().String()+path, strings.NewReader(lines[1]))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("x-api-key", "a-key-for-the-pages-of-docs")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s\n%s\n\n%d %s\n", lines[0], lines[1], res.StatusCode, text)
}
