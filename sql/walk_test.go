package sql_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestNothingReadsAWholeTable: no statement walks the events, the ledger or the attempts from
// one end to the other, whatever the statistics know of them: each looks up what it is about,
// or stops after a few. What is kept in an index of its own, such as what is due, may be
// walked; the planner sees how large such an index is.
func TestNothingReadsAWholeTable(t *testing.T) {
	t.Parallel()
	scan := regexp.MustCompile(`(Scan|using (\w+)) on (outbox_events|deliveries|attempts)\b`)
	bounded := []string{"claim_due", "resume_braked"} // what waits is not walked for what is due
	partial := []string{"deliveries_due", "deliveries_stuck", "deliveries_line", "deliveries_supersedes", "deliveries_likeness"}
	for _, known := range []string{"", "analyze public.outbox_events", "analyze outbox.deliveries", "analyze outbox.attempts", "analyze"} {
		for _, state := range []string{"processed", "some open"} {
			t.Run(known+", "+state, func(t *testing.T) {
				t.Parallel()
				db := pgtest.New(t)
				pgtest.Exec(t, db, `insert into outbox_events (type, payload, processed_at) select 'a', '{}', now() from generate_series(1, 20000)`)
				pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, finished_at)
					select overlay(md5(id::text) placing encode(substr(int8send(seq), 3), 'hex') from 1 for 12)::uuid, id, seq, type, created_at, '', '', '', '', 'delivered', 1, now()
					from outbox_events`)
				pgtest.Exec(t, db, `insert into outbox.attempts (delivery_id, attempt, took, state) select id, 1, '1 s', 'retry' from outbox.deliveries`)
				if state == "some open" {
					pgtest.Exec(t, db, `update outbox_events set processed_at = null where seq % 200 = 0`)
					pgtest.Exec(t, db, `update outbox.deliveries set finished_at = null, state = 'ready' where event_seq % 200 = 0`)
				}
				if known != "" {
					pgtest.Exec(t, db, known)
				}
				conn := connect(t, db)
				for _, file := range names(t, "queries/*.sql") {
					query := strings.TrimSuffix(strings.TrimPrefix(file, "queries/"), ".sql")
					planAsListener(t, conn, query)
					plan := explain(t, conn, query)
					lines := append(slices.Collect(strings.Lines(plan)), "")
					for i, line := range lines {
						m := scan.FindStringSubmatch(line)
						if m == nil || strings.Contains(lines[i+1], "Index Cond: ") || slices.Contains(partial, m[2]) && !slices.Contains(bounded, query) {
							continue
						}
						if query == "find_deliveries" && m[2] == "deliveries_pkey" && strings.HasPrefix(plan, "Limit") {
							continue // the newest, by any filter that a person gives
						}
						t.Errorf("%s reads all of %s; the plan is\n%s", query, m[3], plan)
					}
				}
			})
		}
	}
}
