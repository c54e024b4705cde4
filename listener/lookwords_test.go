package listener_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// gossip is a channel of somebody's own that never answers, and when it is asked repeats
// whom it was asked about.
type gossip struct {
	find func(words string) (dispatch.Found, error)
}

func (gossip) Send(context.Context, *dispatch.Delivery) (dispatch.Receipt, error) {
	return dispatch.Receipt{}, &dispatch.Error{Kind: dispatch.Unknown}
}

func (gossip) Likeness(d *dispatch.Delivery) string { return d.ID.String() }

func (g gossip) Find(context.Context, *dispatch.Delivery, time.Time) (dispatch.Found, error) {
	return g.find("nothing is listed for +15550107788 at https://user:s3cret@example.com/list?key=s3cret, ask ann@example.com")
}

// TestLooksKeepRecipients: what a provider says when it is asked is on record between
// one look and the next, without what it repeats of recipients and credentials.
func TestLooksKeepRecipients(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		find func(words string) (dispatch.Found, error)
	}{
		{"an error", func(words string) (dispatch.Found, error) {
			return dispatch.Found{}, &dispatch.Error{Kind: dispatch.Down, Err: errors.New(words)}
		}},
		{"a doubt", func(words string) (dispatch.Found, error) { return dispatch.Found{Doubt: words}, nil }},
		{"a panic", func(words string) (dispatch.Found, error) { panic(words) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			r := router{plan: func(dispatch.Event) ([]dispatch.Message, error) {
				return []dispatch.Message{step("text", dispatch.Terms{Retry: dispatch.Retries{OnUnknown: dispatch.Reconcile}})}, nil
			}}
			start(t, newListener(t, db, routed(gossip{tt.find}, plain, r), func(c *listener.Config) {
				c.LookAfter, c.PollInterval = []time.Duration{0, time.Hour}, 200*time.Millisecond
			}))
			event := insert(t, db, "x", `{}`)
			var why string
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
				why = pgtest.QueryVal[string](t, db, `select coalesce(max(last_error), '') from outbox.deliveries where event_id = $1 and looks is not null`, event)
				return strings.Contains(why, "the provider"), fmt.Sprintf("the reason is %q", why)
			})
			for _, not := range []string{"5550107788", "s3cret", "ann@"} {
				if strings.Contains(why, not) {
					t.Errorf("%q has %s", why, not)
				}
			}
		})
	}
}
