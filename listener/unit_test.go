package listener

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

func TestDeliveryID(t *testing.T) {
	t.Parallel()
	ev := uuid.MustParse("6f0c5a3e-8a51-4c1e-9a7e-0d8d2f6f3b11")
	base := dispatch.Message{Route: "a", Step: "b", Recipient: "c"}
	id := deliveryID(7, ev, &base, 0)
	if id != deliveryID(7, ev, &base, 0) {
		t.Error("the same delivery has two ids")
	}
	if id.Version() != 8 || id.Variant() != uuid.RFC4122 {
		t.Errorf("%s is version %d, variant %s; want 8 of RFC 9562", id, id.Version(), id.Variant())
	}
	for name, other := range map[string]uuid.UUID{
		"another event":      deliveryID(7, uuid.Nil, &base, 0),
		"another step":       deliveryID(7, ev, &dispatch.Message{Route: "a", Step: "x", Recipient: "c"}, 0),
		"a shifted boundary": deliveryID(7, ev, &dispatch.Message{Route: "ab", Step: "", Recipient: "c"}, 0),
		"a generation later": deliveryID(7, ev, &base, 1),
	} {
		if other == id {
			t.Errorf("%s has the same id", name)
		}
	}
	later := deliveryID(8, ev, &base, 0)
	if later.String() <= id.String() {
		t.Errorf("a later event sorts first: %s, %s", id, later)
	}
	if [10]byte(later[6:]) != [10]byte(id[6:]) {
		t.Error("the tail depends on where the event stands")
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	var sum time.Duration
	for n := 1; n < DefaultMaxAttempts; n++ {
		sum += ceiling(n, dispatch.Retries{})
		for range 100 {
			if w := backoff(n, 0, dispatch.Retries{}); w < 0 || w > ceiling(n, dispatch.Retries{}) {
				t.Fatalf("backoff(%d) = %s, ceiling %s", n, w, ceiling(n, dispatch.Retries{}))
			}
		}
	}
	lowest, highest := lastCeiling, time.Duration(0)
	for range 100 {
		w := backoff(5, 0, dispatch.Retries{})
		lowest, highest = min(lowest, w), max(highest, w)
	}
	if c := ceiling(5, dispatch.Retries{}); lowest > c/2 || highest < c/2 {
		t.Errorf("100 waits below %s are between %s and %s; they come back together", c, lowest, highest)
	}
	if mean := sum / 2; mean < 18*time.Hour || mean > 30*time.Hour {
		t.Errorf("%d attempts span %s in the mean, want about a day", DefaultMaxAttempts, mean)
	}
	if w := backoff(1, time.Hour, dispatch.Retries{}); w < time.Hour || w > 70*time.Minute {
		t.Errorf("asked to wait an hour: %s", w)
	}
	if c := ceiling(1<<30, dispatch.Retries{}); c != lastCeiling {
		t.Errorf("ceiling of a huge attempt = %s", c)
	}
}

// TestMarksNeverPassALateCommit plays transactions that draw numbers, stay
// open and commit in any order against the marks, with claims that see only
// what is committed: every event is claimed once, and the mark never passes
// one that is still to come.
func TestMarksNeverPassALateCommit(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var m marks
		m.reset(0)
		type txn struct {
			name     string
			seqs     []int64
			prepared bool
		}
		var open []txn
		var next int64
		visible := map[int64]bool{} // true once claimed
		names := 0
		rename := func(o *txn) {
			names++
			o.name = preparedPrefix + strconv.Itoa(names)
		}
		claim := func(lower, upper int64, limit int) int {
			_, _, _, settled := m.get()
			n, highest := 0, lower
			for seq := lower + 1; seq <= min(next, upper) && n < limit; seq++ {
				if done, ok := visible[seq]; ok && !done {
					visible[seq] = true
					n++
					highest = seq
				}
			}
			m.looked(lower, upper, highest, n == limit, settled)
			return n
		}
		for range 400 {
			switch r.IntN(9) {
			case 0: // begin: the lock comes before the first number
				names++
				open = append(open, txn{name: "3/" + strconv.Itoa(names)})
			case 1, 2: // draw a number
				if len(open) > 0 {
					if i := r.IntN(len(open)); !open[i].prepared {
						next++
						open[i].seqs = append(open[i].seqs, next)
					}
				}
			case 3: // commit or roll back
				if len(open) > 0 {
					i := r.IntN(len(open))
					if r.IntN(4) > 0 {
						for _, s := range open[i].seqs {
							visible[s] = false
						}
					}
					open = append(open[:i], open[i+1:]...)
				}
			case 4:
				flight := map[string]struct{}{}
				highest := next
				for _, o := range open {
					flight[o.name] = struct{}{}
				}
				m.observe(m.era, m.settled, highest, flight)
			case 5:
				_, mark, cursor, _ := m.get()
				lower := []int64{mark, cursor}[r.IntN(2)]
				upper := []int64{lower + 1 + r.Int64N(5), top}[r.IntN(2)] // that of a step of a walk, or none
				claim(lower, upper, 1+r.IntN(5))
			case 6: // prepare, under the name that it has
				if len(open) > 0 {
					open[r.IntN(len(open))].prepared = true
				}
			case 7: // the session ends in which one was prepared
				if len(open) > 0 {
					if o := &open[r.IntN(len(open))]; o.prepared {
						rename(o)
					}
				}
			case 8: // the server restarts: the prepared ones remain
				if r.IntN(10) > 0 {
					break
				}
				open = slices.DeleteFunc(open, func(o txn) bool { return !o.prepared })
				for i := range open {
					rename(&open[i])
				}
			}
			_, mark, _, _ := m.get()
			for _, o := range open {
				for _, s := range o.seqs {
					if s <= mark {
						t.Fatalf("seed %d: mark %d passed %d, which is not committed yet", seed, mark, s)
					}
				}
			}
		}
		for _, o := range open {
			for _, s := range o.seqs {
				visible[s] = false
			}
		}
		for {
			_, mark, _, _ := m.get()
			if claim(mark, top, 5) == 0 {
				break
			}
		}
		for s, claimed := range visible {
			if !claimed {
				t.Fatalf("seed %d: event %d was never claimed", seed, s)
			}
		}
	}
}

// TestRowOfWhatIsNotSettled: what is parked or frozen before it has an outcome
// stays what it was where that says that it may have left: a crash must not make it
// ready.
func TestRowOfWhatIsNotSettled(t *testing.T) {
	t.Parallel()
	for state, want := range map[dispatch.State]dispatch.State{
		"": dispatch.Ready, dispatch.Ready: dispatch.Ready, dispatch.Retry: dispatch.Ready,
		dispatch.Sending: dispatch.Sending, dispatch.Uncertain: dispatch.Uncertain, dispatch.Held: dispatch.Held,
	} {
		j := &job{state: state, attempts: 1, found: "SM1"}
		if r := j.ledgerRow(time.Second); r.state != want || r.attempts != 1 || r.providerID == nil || *r.providerID != "SM1" {
			t.Errorf("%q: row is %+v, want it %s", state, r, want)
		}
		if state == dispatch.Sending || state == dispatch.Uncertain {
			want = state
		} else {
			want = dispatch.Ready
		}
		if o := j.notBegun(time.Second); o.State != want || !j.idle {
			t.Errorf("%q: not begun is %+v, want %s", state, o, want)
		}
	}
}

func TestNextLook(t *testing.T) {
	t.Parallel()
	l := &Listener{cfg: Config{LookAfter: DefaultLookAfter()}}
	for _, tt := range []struct {
		name          string
		answers       int
		age           time.Duration
		atLeast, most time.Duration
		again         bool
	}{
		{"after the first", 1, 0, 20 * time.Second, 22 * time.Second, true},
		{"after the second", 2, 21 * time.Second, 39 * time.Second, 45 * time.Second, true},
		{"after the third", 3, time.Minute, 0, 0, false},
		{"after the third, a little early", 3, 55 * time.Second, 0, 0, false},
		{"after the third, which somebody hastened", 3, 10 * time.Second, 50 * time.Second, 56 * time.Second, true},
		{"after a day", 1, 24 * time.Hour, 0, 0, true},
		{"after the fourth", 4, 2 * time.Minute, 0, 0, false},
	} {
		for range 20 {
			if wait, again := l.nextLook(tt.answers, tt.age); again != tt.again || wait < tt.atLeast || wait > tt.most {
				t.Errorf("%s: %s, %t; want %s to %s, %t", tt.name, wait, again, tt.atLeast, tt.most, tt.again)
			}
		}
	}
}

// TestPolicy: what a route says about a step goes before what the channel comes with, or an operator says of it.
func TestPolicy(t *testing.T) {
	for _, tt := range []struct {
		name    string
		channel dispatch.OnUnknown
		retry   dispatch.Retries
		want    string
	}{
		{"nobody says", "", dispatch.Retries{}, "resend, then hold"},
		{"the channel", dispatch.NeverTwice, dispatch.Retries{}, "never_twice, then hold"},
		{"the route", dispatch.NeverTwice, dispatch.Retries{OnUnknown: dispatch.Hold}, "hold, then hold"},
		{"the route has it looked for", dispatch.NeverTwice, dispatch.Retries{IfNotFound: dispatch.Resend}, "reconcile, then resend"},
		{"the route has it looked for, and says so", dispatch.Hold, dispatch.Retries{OnUnknown: dispatch.Reconcile, IfNotFound: dispatch.Resend}, "reconcile, then resend"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := dispatch.New()
			d.Register("carrier", struct{ dispatch.Reconciler }{}, dispatch.Policy{OnUnknown: tt.channel, IfNotFound: dispatch.Hold})
			l := &Listener{cfg: Config{Dispatcher: d}}
			p := l.policy(&job{Delivery: dispatch.Delivery{Message: dispatch.Message{Channel: "carrier", Terms: &dispatch.Terms{Retry: tt.retry}}}})
			if got := string(p.OnUnknown) + ", then " + string(p.IfNotFound); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}
