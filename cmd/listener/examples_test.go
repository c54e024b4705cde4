package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestCheckExamples: listener check has nothing against any of them, neither a
// problem nor a warning, also where the tables are large.
func TestCheckExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../examples/*/routes.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("found %v, %v", files, err)
	}
	large := map[string]string{
		"mystos": `insert into contacts select from generate_series(1, 20000);
			insert into leads (contact_id) select id from contacts;
			insert into appointments (contact_id, lead_id) select contact_id, id from leads;
			insert into quotes (contact_id, total) select id, 1 from contacts`,
		"saas": `insert into accounts (company) select 'Acme' from generate_series(1, 20000);
			insert into users (account_id, email, owner) select id, 'a@example.com', true from accounts;
			insert into webhook_endpoints (account_id, url) select id, 'https://example.com' from accounts`,
		"shop": `insert into customers (name, email) select 'Ann', 'a@example.com' from generate_series(1, 20000);
			insert into orders (customer_id, total) select id, 1 from customers;
			insert into order_lines select id, 1, 'Tea', 1, 1 from orders`,
	}
	for _, file := range files {
		example := filepath.Base(filepath.Dir(file))
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			schema, err := os.ReadFile(filepath.Join(filepath.Dir(file), "schema.sql"))
			if err != nil {
				t.Fatal(err)
			}
			pgtest.Exec(t, w.db, string(schema))
			pgtest.Exec(t, w.db, large[example])
			pgtest.Exec(t, w.db, `analyze`)
			w.env["OUTBOX_ROUTES"], w.env["DATABASE_URL"] = file, asDaemon(t, w.db)
			for _, v := range []string{"APP_URL", "NEXT_PUBLIC_SITE_URL", "SITE_URL", "GA4_URL"} {
				w.env[v] = "https://example.com"
			}
			w.env["APPOINTMENT_TIMEZONE"], w.env["QUOTE_ALERT_EMAIL"] = "America/New_York", "office@example.com"
			w.env["GA4_MEASUREMENT_ID"], w.env["GA4_API_SECRET"] = "G-TEST", "secret"
			// The stand-ins do not answer what check asks of providers.
			got := call(t, w.env, "check", "--offline", "--json")
			if got.code != exitOK || !strings.Contains(got.stdout, `"problems": 0`) || !strings.Contains(got.stdout, `"warnings": 0`) {
				t.Errorf("exit code %d, %s%s", got.code, got.stdout, got.stderr)
			}
		})
	}
}
