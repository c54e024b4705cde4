package listener_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// TestStopBesideADatabaseThatHangs: what was sent is in a file soon after the grace period,
// whatever else waits for a database that says nothing any more: whoever stops the listener
// kills it after a while.
func TestStopBesideADatabaseThatHangs(t *testing.T) {
	t.Parallel()
	db, dir := pgtest.New(t), t.TempDir()
	pc, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	f := newFreezer(t, fmt.Sprintf("%s:%d", pc.ConnConfig.Host, pc.ConnConfig.Port))
	addr := f.ln.Addr().(*net.TCPAddr)
	pc.ConnConfig.Host, pc.ConnConfig.Port, pc.ConnConfig.Fallbacks = addr.IP.String(), uint16(addr.Port), nil
	pool, err := pgxpool.NewWithConfig(t.Context(), pc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	d, b := dispatch.New(), newBlocker()
	channel(d, "greeting", "carrier", b, plain)
	const grace = 200 * time.Millisecond
	l := newListener(t, db, d, func(c *listener.Config) {
		c.Pool, c.Lease, c.ShutdownGrace, c.StateDir = pool, 20*time.Second, grace, dir
	})
	stop := start(t, l)
	listening(t, l)
	insert(t, db, "greeting", `{}`)
	<-b.entered
	f.freezeForGood()
	close(b.gate)
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) { return b.count() == 1, "not sent" })
	time.Sleep(time.Second) // until whatever asks the database from time to time is asking
	begun, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		stop()
	}()
	// The grace period, 5 s for records, and 1 s in which workers may end.
	pgtest.Eventually(t, 20*time.Second, func() (bool, string) { return len(spools(t, dir)) == 1, "nothing is kept" })
	if took := time.Since(begun); took > grace+8*time.Second {
		t.Errorf("kept after %s", took)
	}
	<-done
	t.Logf("ended after %s", time.Since(begun).Round(time.Millisecond))
}
