package listener_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// killedInOrder in the environment, beside killedURL, makes the test binary run as a
// listener that delivers in order to that address.
const killedInOrder = "LISTENER_TEST_IN_ORDER"

// posting is a Sender that posts the content.
type posting string

// Send implements dispatch.Sender.
func (p posting) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(p), bytes.NewReader(d.Content))
	if err != nil {
		return dispatch.Receipt{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return dispatch.Receipt{}, &dispatch.Error{Channel: "carrier", Kind: dispatch.Unknown, Err: err}
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return dispatch.Receipt{}, down()
	}
	return dispatch.Receipt{}, nil
}

// runInOrder is the program that TestOrderUnderKill kills.
func runInOrder(url, address string) (code int) {
	return runToBeKilled(url, inOrder(posting(address)), func(c *listener.Config) { c.MaxAttempts = 1000 })
}

// TestOrderUnderKill: three listeners are killed one after the other, again and again,
// while they deliver eight keys to a receiver that takes a while and fails at times.
func TestOrderUnderKill(t *testing.T) {
	t.Parallel()
	const keys, events, most = 8, 60, 30 // kills at most
	db := pgtest.New(t)
	w := newWitness()
	w.slow = true
	w.answer = downAtTimes
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = w.Send(r.Context(), &dispatch.Delivery{Message: dispatch.Message{Content: body}})
		}
		if err != nil {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	victims := make([]*victim, 3)
	for i := range victims {
		victims[i] = startVictim(t, db, killedInOrder+"="+server.URL)
	}
	for n := 1; n <= events; n++ {
		for k := range keys {
			insertKeyed(t, db, fmt.Sprintf("k%d", k), n)
		}
	}
	left := func() int {
		return pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where processed_at is null`)
	}
	kills := 0
	for ; kills < most && left() > 0; kills++ {
		before := w.count()
		pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
			return w.count() >= before+5 || left() == 0, fmt.Sprintf("%d were taken", w.count())
		})
		i := kills % len(victims)
		victims[i].kill()
		victims[i] = startVictim(t, db, killedInOrder+"="+server.URL)
	}
	pgtest.Drains(t, 20*time.Second, "events are not processed", left)
	t.Logf("%d kills, %d requests taken for %d events", kills, w.count(), keys*events)
	w.blameless(t)
	if bad := pgtest.QueryVals[string](t, db, `select id || ' ' || state from outbox.deliveries where state <> 'delivered'`); len(bad) > 0 {
		t.Errorf("not delivered: %v", bad)
	}
}
