package listener_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// killedTwilio and killedPolicy in the environment, beside killedURL, make the test
// binary run as a listener that sends SMS there, by that one of smsPolicies.
const (
	killedTwilio = "LISTENER_TEST_TWILIO"
	killedPolicy = "LISTENER_TEST_POLICY"
)

// runSMS is the program that the tests of this file kill.
func runSMS(url, api string) (code int) {
	d, err := smsDispatcher(api, os.Getenv(killedPolicy))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return runToBeKilled(url, d, shortLooks)
}

// TestSMSKilledWhileSending: a listener is killed between the request and the
// record of its outcome. What follows is what the policy says, and not a second
// message.
func TestSMSKilledWhileSending(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		policy   string
		taken    bool // the request that was under way
		hidden   bool // the list lies
		want     string
		requests int
		received int
	}{
		{"it has it", "hold", true, false, "delivered 1", 1, 1},
		{"it has it, otherwise it would be sent again", "resend", true, false, "delivered 1", 1, 1},
		{"it does not have it", "hold", false, false, "held 1", 1, 0},
		{"it does not have it, and it is sent again", "resend", false, false, "delivered 2", 2, 1},
		{"the list lies", "hold", true, true, "held 1", 1, 1},
		{"never twice, and taken", "never_twice", true, false, "dead 1", 1, 1},
		{"never twice, and not taken", "never_twice", false, false, "dead 1", 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, server := pgtest.New(t), newTwilio(t)
			server.Hide(tt.hidden)
			under, gone := make(chan struct{}), make(chan struct{})
			server.Script(func(n int, _ *http.Request) standin.TwilioReply {
				if n > 1 {
					return standin.TwilioReply{}
				}
				if !tt.taken {
					close(under)
					return standin.TwilioReply{Until: gone, CutBefore: true}
				}
				return standin.TwilioReply{Hang: true}
			})
			if tt.taken {
				server.OnReceive(func(r standin.Received) { server.OnReceive(nil); close(under) })
			}
			first := startVictim(t, db, killedTwilio+"="+server.URL(), killedPolicy+"="+tt.policy)
			insert(t, db, "sms.send", smsText)
			select {
			case <-under:
			case <-time.After(20 * time.Second):
				t.Fatalf("nothing was sent; the listener says %s", first.stderr.String())
			}
			first.kill()
			close(gone)
			second := startVictim(t, db, killedTwilio+"="+server.URL(), killedPolicy+"="+tt.policy)
			pgtest.Eventually(t, 30*time.Second, func() (bool, string) {
				pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() where state = 'retry' and due_at > now() + interval '1 second'`)
				got := "none"
				if all := smsOf(t, db, 0); len(all) > 0 {
					got = fmt.Sprint(all[0].state, " ", all[0].attempts)
				}
				return got == tt.want, got + "; the listener says " + second.stderr.String()
			})
			requests, _ := server.Requests()
			if n := len(server.Received()); requests != tt.requests || n != tt.received {
				t.Errorf("%d requests, %d taken; want %d and %d", requests, n, tt.requests, tt.received)
			}
		})
	}
}

// TestSMSUnderKill: in each run a listener is killed at a random moment while it
// sends many SMS. With an honest list nobody gets one twice, and under never_twice
// none is submitted twice.
func TestSMSUnderKill(t *testing.T) {
	t.Parallel()
	const perRun = 12 // events
	for policy := range smsPolicies {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			runs := numberOf(t, "OUTBOX_TEST_SMS_RUNS", 8)
			seed := numberOf(t, "OUTBOX_TEST_SEED", int(time.Now().UnixNano()%1_000_000))
			random := rand.New(rand.NewPCG(uint64(seed), 1))
			db, server := pgtest.New(t), newTwilio(t)
			slow := func() standin.TwilioReply { // long enough for a kill to fall into it
				until := make(chan struct{})
				time.AfterFunc(20*time.Millisecond, func() { close(until) })
				return standin.TwilioReply{Until: until}
			}
			server.Script(func(int, *http.Request) standin.TwilioReply { return slow() })
			left := map[uuid.UUID]bool{}
			for range runs {
				pgtest.Exec(t, db, `insert into outbox_events (type, payload)
					select 'sms.send', jsonb_build_object('to', '+15550107788', 'body', gen_random_uuid()) from generate_series(1, $1)`, perRun)
				before := len(server.Received())
				v := startVictim(t, db, killedTwilio+"="+server.URL(), killedPolicy+"="+policy)
				pgtest.Eventually(t, 20*time.Second, func() (bool, string) {
					return len(server.Received()) > before, "nothing was sent; the listener says " + v.stderr.String()
				})
				time.Sleep(time.Duration(random.Int64N(int64(80 * time.Millisecond))))
				v.kill()
				for _, id := range pgtest.QueryVals[uuid.UUID](t, db, `select id from outbox.deliveries where state = 'sending'`) {
					left[id] = true
				}
			}
			last := startVictim(t, db, killedTwilio+"="+server.URL(), killedPolicy+"="+policy)
			pgtest.Eventually(t, time.Minute, func() (bool, string) {
				pgtest.Exec(t, db, `update outbox.deliveries set due_at = now() where state = 'retry' and due_at > now() + interval '1 second'`)
				n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events as e where processed_at is null
					and not exists (select from outbox.deliveries as d where d.event_id = e.id and d.state = 'held')`)
				return n == 0, fmt.Sprintf("seed %d: %d events are open; the listener says %s", seed, n, last.stderr.String())
			})
			last.kill()

			times := map[string]int{}
			for _, r := range server.Received() {
				times[r.Body]++
			}
			twice := 0
			for _, n := range times {
				twice += n - 1
			}
			states := map[string]int{}
			for _, id := range pgtest.QueryVals[uuid.UUID](t, db, `select id from outbox_events`) {
				var state, body string
				if err := db.Pool.QueryRow(t.Context(), `select d.state, e.payload->>'body' from outbox_events as e
					join outbox.deliveries as d on d.event_id = e.id where e.id = $1`, id).Scan(&state, &body); err != nil {
					t.Fatalf("seed %d: event %s: %v", seed, id, err)
				}
				states[state]++
				switch {
				case state == "delivered" && times[body] == 0:
					t.Errorf("seed %d: %s is delivered and never arrived", seed, body)
				case state == "held" && times[body] > 0:
					t.Errorf("seed %d: %s arrived, and the list says so, and it is held", seed, body)
				}
			}
			if twice > 0 {
				t.Errorf("seed %d: %d arrived twice", seed, twice)
			}
			if requests, _ := server.Requests(); policy == "never_twice" && requests > runs*perRun {
				t.Errorf("seed %d: %d requests for %d events", seed, requests, runs*perRun)
			}
			t.Logf("seed %d: %d events, %d kills, %d left as sending; %v; %d looks at the list; %d arrived twice",
				seed, runs*perRun, runs, len(left), states, server.Listed(), twice)
		})
	}
}
