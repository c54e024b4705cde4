package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestLinesWaitForAPlan: lines says which event a line waits for that is not planned, where the
// routes file says that its type may come into one, beside what else there is to say.
func TestLinesWaitForAPlan(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	routes := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(routes, []byte(`version: 1
credentials:
  crm: {hosts: [crm.example.com], bearer: CRM_TOKEN} # not set here
routes:
  - name: quote
    event: quote.*
    ordering_key: "{{.payload.number}}"
    deliver:
      - name: tell
        webhook: {url: "https://hooks.example.com/", json: {n: 1}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadRoutes(routes, environ(nil)); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('quote.sent', '{}'), ('quote.accepted', '{}')`)
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient,
		state, attempts, last_error, ordering_key, line, created_at)
		select gen_random_uuid(), id, seq, type, created_at, 'quote', 'tell', 'webhook', '', 'ready', 0, 'paused: channel webhook', 'k', 'k', now() - interval '1 minute'
		from outbox_events where type = 'quote.accepted'`)
	pgtest.Exec(t, db, `update outbox_events set lease_until = 'infinity' where type = 'quote.accepted'`)
	blocker := pgtest.QueryVal[string](t, db, `select id::text from outbox_events where type = 'quote.sent'`)
	for _, tt := range []struct{ routes, want string }{
		{routes, "paused: channel webhook; waits for event " + blocker + " (quote.sent), which is not planned yet"},
		{"", "nothing waits for its turn"},
	} {
		got := call(t, map[string]string{"DATABASE_URL": db.URL, "OUTBOX_ROUTES": tt.routes}, "lines")
		if got.code != 0 || !strings.Contains(got.stdout, tt.want) {
			t.Errorf("with routes %q: %d\n%s%s\nwant %s", tt.routes, got.code, got.stdout, got.stderr, tt.want)
		}
	}
}
