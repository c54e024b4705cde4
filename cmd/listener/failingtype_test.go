package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/evidence"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

var (
	failingFlag = flag.Int("failing", 0, "how many events TestFailingType has whose plan fails; 0 is 300, and without a limit that needs a machine of its own")
	failingPage = flag.String("failing-page", "", "a file that gets the figures, as Markdown")
)

// failingRoute looks for rows in a table that is not there.
const failingRoute = `version: 1
routes:
  - name: report
    event: report.made
    lookup:
      report:
        sql: select title from reports_that_are_away where id = :id
    deliver:
      - name: hook
        webhook:
          url: https://example.com/reports
          body: '{{.report.title}}'
`

// TestFailingType: events of one type that cannot be planned, as many as there are, keep
// others waiting no longer than they take to be tried once, and little from then on: with -failing no more than twice
// what is usual.
func TestFailingType(t *testing.T) {
	t.Parallel()
	n, span := *failingFlag, time.Minute
	if n == 0 {
		n, span = 300, 3*time.Second
	}
	o := &outage{w: newWorld(t), sent: map[int]time.Time{}, arrived: map[int]time.Time{}}
	o.pool = o.w.db.Pool
	o.watchMail()
	o.w.env["OUTBOX_LOG_LEVEL"] = "info"
	o.w.env["OUTBOX_ROUTES"] = filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(o.w.env["OUTBOX_ROUTES"], []byte(failingRoute), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startListener(t, o.w.env)
	p.ready()

	stop := o.trickling(t)
	time.Sleep(span / 10) // the first are slower; nothing is waited for, here and below: they are spans of a stream
	begun := time.Now()
	time.Sleep(span)
	fail := time.Now()
	insert(t, o.w.db, n, "report.made", `{"id": 1}`)
	pgtest.Drains(t, 30*time.Second, "events were not tried", func() int {
		return pgtest.QueryVal[int](t, o.w.db, `select count(*) from outbox_events where type = 'report.made' and claim is null`)
	})
	tried := time.Now()
	time.Sleep(span)
	stop()
	pgtest.Drains(t, 30*time.Second, "e-mails have not arrived", func() int {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.tricks - len(o.arrived)
	})
	normal, first, during := o.p99(begun, fail), o.p99(fail, tried), o.p99(tried, time.Now())
	if left := pgtest.QueryVal[int](t, o.w.db, `select count(*) from outbox_events where type = 'report.made' and processed_at is null`); left != n {
		t.Errorf("of %d events that cannot be planned %d are left", n, left)
	}
	if got := pgtest.QueryVal[int](t, o.w.db, `select count(*) from outbox.deliveries where event_type = 'report.made'`); got != 0 {
		t.Errorf("%d deliveries of events that cannot be planned", got)
	}
	t.Logf("%d events that fail, each tried within %s; p99 of e-mails: %s before, %s until then, %s beside them", n, tried.Sub(fail).Round(time.Millisecond), normal, first, during)
	most := 2 * normal
	if *failingFlag == 0 { // beside other tests
		most = max(5*normal, time.Second)
	}
	if during > most || first > most+tried.Sub(fail) {
		t.Errorf("p99 of e-mails %s until each was tried and %s from then on, before it was %s", first, during, normal)
	}
	if *failingPage == "" {
		return
	}
	version, _, _ := strings.Cut(pgtest.QueryVal[string](t, o.w.db, `select current_setting('server_version')`), " ")
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
	page := fmt.Sprintf(`# A type whose events cannot be planned

What %[1]sjust failing-type%[1]s printed, %[2]s.
PostgreSQL %[3]s on the same machine (fsync %[4]s), %[5]d virtual cores.

One listener sends an e-mail every %[6]s. After %[7]s, %[8]d events of another type are inserted at once, whose route looks into a table that
is not there: each is planned again and again, until somebody mends it. The program is %[1]scmd/listener/failingtype_test.go%[1]s.

| from the insert of an e-mail to its arrival, p99 | at most | was |
|---|---|---|
| before | | %[9]s |
| until each of them was tried once, which took %[10]s: what came later waits for its turn, as behind any backlog | | %[11]s |
| beside them, from then on | twice that | %[12]s |
`, "`", evidence.Source(), version, pgtest.QueryVal[string](t, o.w.db, `select current_setting('fsync')`), runtime.NumCPU(), trickleEvery, short(span), n, ms(normal), tried.Sub(fail).Round(10*time.Millisecond), ms(first), ms(during))
	if err := os.WriteFile(*failingPage, []byte(page), 0o644); err != nil {
		t.Error(err)
	}
}
