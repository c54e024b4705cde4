package examples_test

import (
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestSmallExamples: what the events of the service and of the shop become. A want
// is "route/step recipient" and, each behind a |, what it has in it; or
// "route/step SKIP" and why.
func TestSmallExamples(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		example, name, rows, typ, payload string
		want                              []string
	}{
		{"saas", "a new account", "", "account.created", `{"accountId": 1}`, []string{
			"welcome/mail ann@acme.test|Welcome, Acme & Sons|Hello Ann|https://app.test|January 31, 2031",
			"welcome/trial-ending ann@acme.test|at 2031-01-28T12:00:00Z|key 1|ends on January 31, 2031|https://app.test/plans"}},
		{"saas", "without a trial", "update accounts set trial_ends_at = null", "account.created", `{"accountId": 1}`, []string{
			"welcome/mail ann@acme.test", "welcome/trial-ending SKIP at: account.trial_ends_at is missing or null"}},
		{"saas", "a longer trial", "update accounts set trial_ends_at = trial_ends_at + interval '7 days'", "trial.extended", `{"accountId": 1}`, []string{
			"trial-extended/trial-ending ann@acme.test|at 2031-02-04T12:00:00Z|key 1|February 7, 2031"}},
		{"saas", "subscribed", "", "subscription.started", `{"accountId": 1, "plan": "pro"}`, []string{
			"subscribed/trial-ending SKIP cancels what older events have left|key 1",
			"customer-webhooks/hook https://acme.test/hooks|\\\"type\\\":\\\"subscription.started\\\"|\\\"plan\\\":\\\"pro\\\"",
			"customer-webhooks/hook https://acme.test/more"}},
		{"saas", "an invoice, nobody listens", "delete from webhook_endpoints", "invoice.paid", `{"accountId": 1}`, []string{"customer-webhooks/hook SKIP for_each: no items"}},

		{"shop", "paid", "", "order.paid", `{"orderId": 1}`, []string{
			"order-paid/receipt ann@example.com|Order 1: €34.97 received|2 x Tea: €14.99\n1 x Cup: €4.99\n|Total: €34.97"}},
		{"shop", "paid, no such order", "", "order.paid", `{"orderId": 2}`, []string{"order-paid/receipt SKIP lookup order found no row"}},
		{"shop", "shipped", "", "order.shipped", `{"orderId": 1}`, []string{
			"order-shipped/text +4930123456|Order 1 is on its way. Follow it: https://post.test/1", "order-shipped/mail ann@example.com|Follow it: https://post.test/1"}},
		{"shop", "shipped, no phone, no tracking", "update customers set phone = null; update orders set tracking_url = null", "order.shipped", `{"orderId": 1}`, []string{
			"order-shipped/text SKIP nobody to send to: to is empty", "order-shipped/mail ann@example.com|we have sent your order 1."}},
	} {
		t.Run(tt.example+": "+tt.name, func(t *testing.T) {
			t.Parallel()
			db := withSchema(t, tt.example)
			pgtest.Exec(t, db, map[string]string{
				"saas": `insert into accounts (company, trial_ends_at) values ('Acme & Sons', '2031-01-31 12:00+00');
					insert into users (account_id, email, name, owner) values (1, 'bob@acme.test', 'Bob', false), (1, 'ann@acme.test', 'Ann', true);
					insert into webhook_endpoints (account_id, url, enabled) values (1, 'https://acme.test/hooks', true), (1, 'https://acme.test/off', false), (1, 'https://acme.test/more', true)`,
				"shop": `insert into customers (name, email, phone) values ('Ann Lee', 'ann@example.com', '030 123456');
					insert into orders (customer_id, total, tracking_url) values (1, 34.97, 'https://post.test/1');
					insert into order_lines values (1, 1, 'Tea', 2, 14.99), (1, 2, 'Cup', 1, 4.99)`,
			}[tt.example]+";"+tt.rows)
			messages := plan(t, db, load(t, tt.example, map[string]string{"APP_URL": "https://app.test"}), tt.typ, tt.payload)
			if len(messages) != len(tt.want) {
				t.Fatalf("%d messages, want %d", len(messages), len(tt.want))
			}
			for i, m := range messages {
				want := strings.Split(tt.want[i], "|")
				got := m.Route + "/" + m.Step + " " + m.Recipient
				if m.Skip != "" {
					got = m.Route + "/" + m.Step + " SKIP " + m.Skip
				}
				if m.Refused != "" || !strings.HasPrefix(got, want[0]) {
					t.Errorf("got %s %s\nwant %s", got, m.Refused, want[0])
					continue
				}
				all := "key " + m.Terms.Supersedes + "\nat " + m.Terms.At.UTC().Format(time.RFC3339) + "\n"
				if m.Skip == "" {
					all += texts(t, m) + "\n" + string(m.Content)
				}
				for _, fact := range want[1:] {
					if !strings.Contains(all, fact) {
						t.Errorf("%s: no %q in\n%s", got, fact, all)
					}
				}
			}
		})
	}
}
