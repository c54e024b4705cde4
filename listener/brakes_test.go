package listener

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestWhatBrakes: what attempts at one destination come to, one after the other,
// and whether that brakes it.
func TestWhatBrakes(t *testing.T) {
	t.Parallel()
	fail := func(kind dispatch.Kind, after time.Duration) *dispatch.Error {
		return &dispatch.Error{Channel: "webhook", Kind: kind, RetryAfter: after, Err: errors.New("no")}
	}
	mail := func(status int, code string) *dispatch.Error {
		return &dispatch.Error{Channel: dispatch.ChannelEmail, Kind: dispatch.Down, Status: status, Code: code, Err: errors.New("no")}
	}
	times := func(n int, err *dispatch.Error) (all []*dispatch.Error) {
		for range n {
			all = append(all, err)
		}
		return all
	}
	for _, tt := range []struct {
		name     string
		attempts []*dispatch.Error
		want     bool
		wait     time.Duration // at least, and not a second more
	}{
		{"an answer", times(9, nil), false, 0},
		{"refused for good", times(9, fail(dispatch.Rejected, time.Minute)), false, 0},
		{"throttled, with a wish", times(1, fail(dispatch.Throttled, 30*time.Second)), true, 30 * time.Second},
		{"down, with a wish", times(1, fail(dispatch.Down, 30*time.Second)), true, 30 * time.Second},
		{"a wish beyond all measure", times(1, fail(dispatch.Down, 999*time.Hour)), true, dispatch.MaxRetryAfter},
		{"unknown, with a wish", times(1, fail(dispatch.Unknown, 30*time.Second)), true, 30 * time.Second},
		{"four without an answer", times(4, fail(dispatch.Unknown, 0)), false, 0},
		{"five without an answer", times(5, fail(dispatch.Unknown, 0)), true, 0},
		{"five, one answered", append(append(times(4, fail(dispatch.Down, 0)), nil), times(4, fail(dispatch.Down, 0))...), false, 0},
		{"mailboxes that are busy", times(9, mail(450, "")), false, 0},
		{"mailboxes that are full", times(9, mail(452, "4.2.2")), false, 0},
		{"too many recipients", times(9, mail(452, "4.5.3")), false, 0},
		{"greylisted", times(9, mail(451, "4.7.1")), false, 0},
		{"mail by mail, however much of it", times(99, &dispatch.Error{Channel: dispatch.ChannelEmail, Kind: dispatch.Down, Status: 452, Alone: true}), false, 0},
		{"one mail after the other is not taken, almost too often", times(deferredInRow-1, mail(451, "4.7.1")), false, 0},
		{"too often, whatever it says", times(deferredInRow, mail(451, "")), true, 0},
		{"as often, one taken", append(append(times(deferredInRow-1, mail(450, "4.7.500")), nil), times(deferredInRow-1, mail(450, "4.7.500"))...), false, 0},
		{"as often, one refused for good", append(append(times(deferredInRow-1, mail(450, "")), fail(dispatch.Rejected, 0)), times(deferredInRow-1, mail(450, ""))...), false, 0},
		{"a mail server that closes", times(5, mail(421, "")), true, 0},
		{"a mail server whose tables are away", times(5, mail(451, "4.3.0")), true, 0},
		{"a mail server whose disk is full", times(5, mail(452, "4.3.1")), true, 0},
		{"and that says so without a code", times(5, mail(452, "")), true, 0},
		{"answers of no use", times(9, &dispatch.Error{Channel: "openai", Kind: dispatch.Down, Status: 200}), false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := &Listener{brakes: newBrakes(), queue: newQueue(4, 10)}
			for _, err := range tt.attempts {
				l.heed(&job{provider: "there"}, time.Now(), err)
			}
			if got := l.brakes.has("there"); got != tt.want {
				t.Fatalf("braked: %t, want %t", got, tt.want)
			}
			if tt.want {
				if left := time.Until(l.brakes.on["there"].until); left > tt.wait || left < tt.wait-pauseFirst-time.Second {
					t.Errorf("for %s, want %s", left, tt.wait)
				}
				puts := l.brakes.news().puts
				if n := puts["there"].failures; n < 1 {
					t.Errorf("the database is told of %d failures", n)
				}
			}
			if l.brakes.has("elsewhere") {
				t.Error("another destination is braked")
			}
		})
	}
}

// TestOneLineASecond: of what fails at one destination a line a second is logged, also where the
// provider answers and the answer is of no use, and where nothing is braked.
func TestOneLineASecond(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		provider string
		err      *dispatch.Error
		want     int // lines of 20
	}{
		{"no answer", "there", &dispatch.Error{Kind: dispatch.Down}, 1},
		{"Twilio took it, without its SID", "there", &dispatch.Error{Kind: dispatch.Unknown, Status: 201}, 1},
		{"mailboxes that are busy", "there", &dispatch.Error{Channel: dispatch.ChannelEmail, Kind: dispatch.Down, Status: 451}, 1},
		{"a handler that nothing brakes", "", &dispatch.Error{Kind: dispatch.Down}, 1},
		{"refused for good", "there", &dispatch.Error{Kind: dispatch.Rejected, Status: 400}, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &Listener{brakes: newBrakes(), queue: newQueue(4, 10)}
				said := 0
				for range 20 {
					j := &job{provider: tt.provider}
					if l.heed(j, time.Now(), tt.err); !j.hushed {
						said++
					}
				}
				if said != tt.want {
					t.Errorf("%d of 20 are logged, want %d", said, tt.want)
				}
				time.Sleep(time.Second)
				j := &job{provider: tt.provider}
				l.heed(j, time.Now(), tt.err)
				if j.hushed || j.repeated != 20-tt.want {
					t.Errorf("a second later: hushed %t, and %d before it were not logged, want %d", j.hushed, j.repeated, 20-tt.want)
				}
			})
		})
	}
}

// TestOneLineASecondAfterItsPause: an outcome that waits for the pause that it asks for has its line when that is over,
// and none where another had one meanwhile.
func TestOneLineASecondAfterItsPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &Listener{brakes: newBrakes(), queue: newQueue(4, 10)}
		first, second := &job{provider: "there"}, &job{provider: "there"}
		begun, took := time.Now(), time.Duration(0)
		over := make(chan struct{})
		go func() {
			defer close(over)
			l.heed(first, begun, &dispatch.Error{Kind: dispatch.Throttled, Status: 429, RetryAfter: time.Minute})
			took = time.Since(begun)
		}()
		time.Sleep(pauseFirst - time.Second/2)
		l.heed(second, begun, &dispatch.Error{Kind: dispatch.Down, Status: 503})
		<-over
		if took != pauseFirst {
			t.Fatalf("it waited for its pause for %s, want %s", took, pauseFirst)
		}
		if second.hushed || !first.hushed {
			t.Errorf("lines of the second and then the first, half a second apart: %t and %t, want only that of the second", !second.hushed, !first.hushed)
		}
	})
}

// TestProbeThatHangs: one that tries a braked destination keeps others from it for a while,
// and not until it ends, which may take as long as an answer likes.
func TestProbeThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bs := newBrakes()
		for range failedInRow {
			time.Sleep(time.Millisecond)
			bs.failed("there", false, time.Now(), &dispatch.Error{Kind: dispatch.Down})
		}
		time.Sleep(2 * probeEvery)
		if what, _ := bs.pass("there", false); what != asks {
			t.Fatalf("the first: %d, want that it asks", what)
		}
		begun := time.Now()
		bs.granted("there")
		time.Sleep(probeMost - time.Second)
		if what, _ := bs.pass("there", false); what != putsBy {
			t.Errorf("while it tries: %d, want that it is put off", what)
		}
		time.Sleep(2 * time.Second)
		if what, _ := bs.pass("there", false); what != asks {
			t.Errorf("beside one that hangs: %d, want that it asks", what)
		}
		second := time.Now()
		bs.granted("there")
		time.Sleep(2 * probeEvery)
		bs.probed("there", begun)
		if what, _ := bs.pass("there", false); what != putsBy {
			t.Errorf("while another tries: %d, want that it is put off", what)
		}
		bs.probed("there", second)
		if what, _ := bs.pass("there", false); what != asks {
			t.Errorf("after both: %d, want that it asks", what)
		}
	})
}

// TestDeferralEndsNoBrake: a mail server that puts off the mail which tried it may take the next one, or
// none; only one that it takes, or refuses for good, says that it works.
func TestDeferralEndsNoBrake(t *testing.T) {
	t.Parallel()
	l := &Listener{brakes: newBrakes(), queue: newQueue(4, 10)}
	probe := &job{provider: "there", probe: true}
	mail := func(status int) *dispatch.Error {
		return &dispatch.Error{Channel: dispatch.ChannelEmail, Kind: dispatch.Down, Status: status, Err: errors.New("no")}
	}
	for range failedInRow {
		l.heed(&job{provider: "there"}, time.Now(), mail(421))
	}
	l.heed(probe, time.Now(), mail(450))
	if ends := l.brakes.news().ends; !l.brakes.has("there") || len(ends) > 0 {
		t.Error("mail that is put off has ended a brake")
	}
	l.heed(probe, time.Now(), nil)
	if ends := l.brakes.news().ends; len(ends) != 1 {
		t.Error("mail that is taken has not ended it")
	}
}

// TestEndOfABrakeIsABeginning: where another listener was answered, what this one counted
// before is over: one more mail that is put off brakes nothing.
func TestEndOfABrakeIsABeginning(t *testing.T) {
	t.Parallel()
	l := &Listener{brakes: newBrakes(), queue: newQueue(4, 10)}
	deferral := &dispatch.Error{Channel: dispatch.ChannelEmail, Kind: dispatch.Down, Status: 450, Err: errors.New("no")}
	for range deferredInRow {
		l.heed(&job{provider: "there"}, time.Now(), deferral)
	}
	l.brakes.told(l.brakes.news())
	l.brakes.released("there", time.Now())
	if l.brakes.has("there") {
		t.Fatal("it is not released")
	}
	l.heed(&job{provider: "there"}, time.Now(), deferral)
	if l.brakes.has("there") {
		t.Error("braked again by one mail")
	}
}

// TestOldFailures: an attempt that was begun before another was answered says
// nothing, however many of them end without an answer later.
func TestOldFailures(t *testing.T) {
	t.Parallel()
	bs := newBrakes()
	begun := time.Now()
	bs.answered("there", false)
	for range 9 {
		bs.failed("there", false, begun, &dispatch.Error{Kind: dispatch.Unknown})
	}
	if bs.has("there") {
		t.Error("braked by attempts from before the last answer")
	}
}

// TestSlots: what is put off comes back one a second, none before the provider
// wants it, and past five minutes at any time.
func TestSlots(t *testing.T) {
	t.Parallel()
	now := time.Now()
	b := &brake{until: now.Add(20 * time.Second)}
	for i := range 300 {
		want := 20*time.Second + time.Duration(i)*time.Second
		if got := b.wait(now); got != want {
			t.Fatalf("number %d waits %s, want %s", i, got, want)
		}
	}
	late := 0
	for range 1000 {
		switch got := b.wait(now); {
		case got < pausedFor/2:
			t.Fatalf("one more waits only %s", got)
		case got > 20*time.Second+pausedFor+time.Second:
			t.Fatalf("one more waits %s", got)
		default:
			late++
		}
	}
	if late < 990 {
		t.Errorf("%d of 1000 come back late", late)
	}
	if got := (&brake{until: now.Add(dispatch.MaxRetryAfter)}).wait(now); got != time.Hour {
		t.Errorf("what may be asked in a day comes back in %s", got)
	}
}

// TestReadings: what a reading says that is older than what we know does not count.
func TestReadings(t *testing.T) {
	t.Parallel()
	before := time.Now()
	there := []onBrake{{"there", time.Minute, time.Minute}}
	for _, tt := range []struct {
		name string
		do   func(bs *brakes)
		on   bool
		over int
	}{
		{"one that another put on", func(bs *brakes) { bs.read(time.Now(), there) }, true, 0},
		{"it is gone", func(bs *brakes) { bs.read(before, there); bs.read(time.Now(), nil) }, false, 1},
		{"ours is not on record yet", func(bs *brakes) {
			bs.failed("there", false, time.Now(), &dispatch.Error{Kind: dispatch.Down, RetryAfter: time.Minute})
			bs.read(time.Now(), nil)
		}, true, 0},
		{"ours was put on after the reading", func(bs *brakes) {
			bs.failed("there", false, time.Now(), &dispatch.Error{Kind: dispatch.Down, RetryAfter: time.Minute})
			bs.told(bs.news())
			bs.read(time.Now(), there)
			bs.read(before, nil)
		}, true, 0},
		{"it was released after the reading", func(bs *brakes) {
			bs.read(before, there)
			bs.released("there", time.Now())
			bs.asked = time.Time{} // so that the older one counts at all
			bs.read(before, there)
		}, false, 1},
		{"it was put on again", func(bs *brakes) {
			bs.read(before, there)
			bs.released("there", before.Add(time.Nanosecond))
			bs.read(time.Now(), there)
		}, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bs := newBrakes()
			tt.do(bs)
			if got := bs.has("there"); got != tt.on {
				t.Errorf("braked: %t, want %t", got, tt.on)
			}
			if n := len(bs.ended()); n != tt.over {
				t.Errorf("%d released, want %d", n, tt.over)
			}
		})
	}
}

// TestDivert: what waits for a destination that is braked leaves its turn, and
// comes back to it when the brake is gone; others are left alone.
func TestDivert(t *testing.T) {
	t.Parallel()
	q := newQueue(16, 10)
	add := func(destination string, n int) {
		for range n {
			q.await(&job{destination: destination, provider: destination})
		}
	}
	add("webhook a", 5)
	add("webhook ab", 5)
	q.places["webhook a"].window = 9
	q.divert("webhook a")
	if n, others := len(q.places["webhook a"].waiting), len(q.places["webhook ab"].waiting); n != 0 || others != 5 || q.plain.len() != 5 {
		t.Errorf("%d wait, %d elsewhere, and %d are put off", n, others, q.plain.len())
	}
	if w := q.places["webhook a"].window; w != firstWindow {
		t.Errorf("its window is %d", w)
	}
	w, _ := q.next()
	if !w.job.aside || w.job.flying {
		t.Errorf("the next one is %+v", w.job)
	}
	q.rejoin(w.job)
	if n := len(q.places["webhook a"].waiting); n != 1 {
		t.Errorf("%d wait after one came back", n)
	}
}

// TestReadingIsSlow: how long a destination is to be left alone counts from the answer,
// since the database said it after it was asked.
func TestReadingIsSlow(t *testing.T) {
	t.Parallel()
	bs := newBrakes()
	bs.read(time.Now().Add(-10*time.Second), []onBrake{{"there", time.Minute, time.Minute}})
	if left := time.Until(bs.on["there"].until); left < 59*time.Second || left > time.Minute {
		t.Errorf("left alone for %s more, want a minute", left)
	}
}

// TestBrakeIsOnDisk: a brake is on disk once it is committed, like the record of the attempt that
// it follows from: after a crash of the server that record alone would say what a provider
// asked for, and nobody would heed it.
func TestBrakeIsOnDisk(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, sql := range []string{
		`create table public.seen (commits text)`,
		`create function public.see() returns trigger language plpgsql as $$ begin insert into public.seen values (current_setting('synchronous_commit')); return null; end $$`,
		`create trigger see after insert on outbox.brakes for each row execute function public.see()`,
	} {
		pgtest.Exec(t, db, sql)
	}
	s := &store{pool: db.Pool, lease: time.Minute}
	fresh, _, _, err := s.changeBrakes(t.Context(), news{puts: map[string]put{"there": {failures: 1, until: time.Now().Add(time.Minute), reason: "no"}}, patience: time.Second})
	if err != nil || len(fresh) != 1 {
		t.Fatal(fresh, err)
	}
	if got := pgtest.QueryVal[string](t, db, `select string_agg(commits, ' ') from public.seen`); got != "on" {
		t.Errorf("written with synchronous_commit %q, want on", got)
	}
}

// TestBrakeGoesAroundLocks: a row that somebody has locked keeps no other brake off the record.
func TestBrakeGoesAroundLocks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox.brakes (destination, reason, failures, until, probe_at)
		select n, 'no', 1, clock_timestamp() - ago, clock_timestamp() - ago
		from (values ('free', '0 s'::interval), ('locked', '0 s'), ('over', '0 s'), ('over, and locked', '0 s'), ('old', '2 h'), ('old, and locked', '2 h')) as b (n, ago)`)
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), `select from outbox.brakes where destination like '%locked' for update`); err != nil {
		t.Fatal(err)
	}
	l := teller(&store{pool: db.Pool, lease: time.Minute})
	bs, asks := l.brakes, &dispatch.Error{Kind: dispatch.Throttled, RetryAfter: time.Minute}
	l.readBrakes(t.Context())
	bs.answered("over", true)
	bs.answered("over, and locked", true)
	_, locked := bs.failed("locked", false, time.Now(), asks)
	_, free := bs.failed("free", false, time.Now(), asks)
	begun := time.Now()
	l.tellBrakes(t.Context())
	if took := time.Since(begun); took > pauseFirst {
		t.Errorf("it took %s, and an outcome waits for %s", took, pauseFirst)
	}
	if !closed(free) || closed(locked) {
		t.Errorf("the free one is on record: %t, and the locked one: %t", closed(free), closed(locked))
	}
	const names = `select string_agg(destination, ' ' order by destination collate "C") from outbox.brakes`
	if got := pgtest.QueryVal[string](t, db, names); got != "free locked old, and locked over, and locked" {
		t.Errorf("braked are %q", got)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.tellBrakes(t.Context())
	if !closed(locked) || len(bs.puts)+len(bs.ends) > 0 {
		t.Errorf("then the locked one is on record: %t; left are %v, %v", closed(locked), bs.puts, bs.ends)
	}
	l.readBrakes(t.Context())
	if l.tellBrakes(t.Context()); !bs.news().none() {
		t.Errorf("in the end there is something to be told: %+v", bs.news())
	}
	if got := pgtest.QueryVal[string](t, db, names); got != "free locked" {
		t.Errorf("in the end braked are %q", got)
	}
}

// hangs is a storage of which some connections were cut off without a word.
type hangs struct {
	storage
	times int
}

func (h *hangs) changeBrakes(ctx context.Context, _ news) ([]string, map[string]time.Duration, []onBrake, error) {
	if h.times--; h.times >= 0 {
		<-ctx.Done()
		return nil, nil, nil, ctx.Err()
	}
	return nil, nil, nil, nil
}

// TestBrakeIsToldAnew: a connection that was cut off without a word does not keep the outcome from following its pause.
func TestBrakeIsToldAnew(t *testing.T) {
	t.Parallel()
	l := teller(&hangs{times: 1})
	_, told := l.brakes.failed("there", false, time.Now(), &dispatch.Error{Kind: dispatch.Throttled, RetryAfter: time.Minute})
	begun := time.Now()
	for !closed(told) {
		<-l.brakes.wake // at once after a try
		l.tellBrakes(t.Context())
	}
	if took := time.Since(begun); took > pauseFirst {
		t.Errorf("on record after %s", took)
	}
	if within := l.brakes.within(); within != tellSoon {
		t.Errorf("the next try may take %s", within)
	}
}

// TestSlowDatabaseIsTold: each try that takes too long makes the next one longer, up to where any call ends.
func TestSlowDatabaseIsTold(t *testing.T) {
	t.Parallel()
	bs := newBrakes()
	for _, want := range []time.Duration{tellSoon, 2 * tellSoon, 4 * tellSoon, 8 * tellSoon, dbTimeout, dbTimeout} {
		if got := bs.within(); got != want {
			t.Errorf("a try may take %s, want %s", got, want)
		}
		if n := bs.news(); (n.patience > tellPatience) != (want > tellSoon) {
			t.Errorf("where it may take %s, it waits %s for a row that may be its own", want, n.patience)
		}
		bs.tooSlow()
	}
}

// teller is a Listener that tells a storage of brakes.
func teller(s storage) *Listener {
	log := slog.New(slog.DiscardHandler)
	return &Listener{brakes: newBrakes(), queue: newQueue(4, 10), store: s, log: log, sparse: newSparse(log)}
}
