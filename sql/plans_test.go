package sql_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/sql"
)

// TestPlansThatAreKept: claims and fresh records walk their index whatever the
// statistics say, also by a plan that was made while the table was empty and
// is kept for later.
func TestPlansThatAreKept(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		query string
		scans int    // of the table, each by the index
		from  string // what is between the bounds of one, where it has two
	}{
		{"claim_events", 2, ""},
		{"claim_range", 1, `\(\(e?\.?seq > .*\) AND \(e?\.?seq <= .*\)\)`},
		{"record_fresh", 1, ""},
		{"record_alike", 1, `\(\(e?\.?seq >= .*\) AND \(e?\.?seq <= .*\)\)`},
	} {
		for _, table := range []string{"empty", "filled"} {
			t.Run(tt.query+" "+table, func(t *testing.T) {
				t.Parallel()
				db := pgtest.New(t)
				if table == "filled" {
					pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'a', '{}' from generate_series(1, 1000)`)
				}
				pgtest.Exec(t, db, `vacuum analyze outbox_events`)
				pgtest.Exec(t, db, `vacuum analyze outbox.deliveries`)
				conn := connect(t, db)
				planAsListener(t, conn, tt.query)
				plan := explain(t, conn, tt.query)
				scan := regexp.MustCompile(`using outbox_events_seq on outbox_events( e)?  .*\n +Index Cond: ` + tt.from)
				if n := len(scan.FindAllString(plan, -1)); n != tt.scans || strings.Count(plan, "on outbox_events") != tt.scans+1 {
					t.Errorf("%d scans of the table by its index, want %d and no other; the plan is\n%s", n, tt.scans, plan)
				}
				if strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Nested Loop") {
					t.Errorf("the plan is\n%s", plan)
				}
			})
		}
	}
}

// planAsListener has conn plan a query as listener/store.go has it planned.
func planAsListener(t *testing.T, conn *pgx.Conn, query string) {
	t.Helper()
	nested, hashed := "on", "off"
	if query == "record_fresh" || query == "record_alike" {
		nested, hashed = hashed, nested
	}
	_, err := conn.Exec(t.Context(), fmt.Sprintf(`set enable_seqscan = off; set enable_bitmapscan = off; set enable_mergejoin = off;
		set enable_nestloop = %s; set enable_hashjoin = %s; set jit = off; set plan_cache_mode = force_generic_plan`, nested, hashed))
	if err != nil {
		t.Fatal(err)
	}
}

// TestIndexesOfTheApplication: an index of what is open, as whoever polls the table has one, is used by none of our
// statements where it looks cheapest: the statistics say that nothing is open, and the plan is made without values.
func TestIndexesOfTheApplication(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, processed_at) select 'a', '{}', now() from generate_series(1, 20000)`)
	pgtest.Exec(t, db, `create index polled on outbox_events (created_at) where processed_at is null`)
	pgtest.Exec(t, db, `create index polled_all on outbox_events (processed_at, created_at)`)
	for _, table := range []string{"outbox_events", "outbox.deliveries"} {
		pgtest.Exec(t, db, `vacuum analyze `+table)
	}
	for _, file := range names(t, "queries/*.sql") {
		query := strings.TrimSuffix(strings.TrimPrefix(file, "queries/"), ".sql")
		if !strings.Contains(sql.Query(query), "outbox_events") {
			continue
		}
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, db)
			planAsListener(t, conn, query)
			if plan := explain(t, conn, query); strings.Contains(plan, "polled") {
				t.Errorf("the plan is\n%s", plan)
			}
		})
	}
}

// TestDeliveriesByID: whatever asks for the deliveries of an event reads them
// by their ids, or by the index of those that were made under another number,
// and walks over no others.
func TestDeliveriesByID(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, processed_at) select 'a', '{}', now() from generate_series(1, 20000)`)
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, finished_at)
		select overlay(md5(id::text) placing encode(substr(int8send(seq), 3), 'hex') from 1 for 12)::uuid, id, seq, type, created_at, '', '', '', '', 'delivered', 1, now()
		from outbox_events`)
	pgtest.Exec(t, db, `update outbox_events set processed_at = null where seq % 100 = 0`)
	for _, table := range []string{"outbox_events", "outbox.deliveries"} {
		pgtest.Exec(t, db, `vacuum analyze `+table)
	}
	for _, tt := range []struct {
		query      string
		ids, moved int // scans of the ledger by each index
	}{
		{"adopt_deliveries", 2, 1}, // the update of what was found
		{"settle_events", 1, 1},
		{"prune_events", 1, 1},
		{"preview_event", 1, 1},
		{"prune_deliveries", 4, 1}, // the walk, the rest of its events, the lock, the delete
	} {
		t.Run(tt.query, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, db)
			planAsListener(t, conn, tt.query)
			plan := explain(t, conn, tt.query)
			ids := regexp.MustCompile(`using deliveries_pkey on deliveries d(_\d+)?  .*\n +Index Cond: `).FindAllString(plan, -1)
			moved := regexp.MustCompile(`using deliveries_moved on deliveries d(_\d+)?  .*\n +Index Cond: \(event_seq = `).FindAllString(plan, -1)
			all := regexp.MustCompile(`(Scan|using \w+) on deliveries`).FindAllString(plan, -1)
			if len(ids) != tt.ids || len(moved) != tt.moved || len(all) != tt.ids+tt.moved || strings.Contains(plan, "Seq Scan") {
				t.Errorf("%d scans by id and %d by deliveries_moved of %d, want %d and %d; the plan is\n%s", len(ids), len(moved), len(all), tt.ids, tt.moved, plan)
			}
		})
	}
	// What is opened again, and what people ask, with the settings of anybody.
	t.Run("deliveries_of", func(t *testing.T) {
		t.Parallel()
		conn := connect(t, db)
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			if _, err := conn.Exec(t.Context(), `set plan_cache_mode = `+mode); err != nil {
				t.Fatal(err)
			}
			for _, query := range []string{
				`select * from outbox.deliveries where id in (select outbox.deliveries_of(seq) from outbox_events where seq = 20100)`,
				`update outbox_events set processed_at = null where seq = 77`,
			} {
				tx, err := conn.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				before := read(t, tx)
				if _, err := tx.Exec(t.Context(), query); err != nil {
					t.Fatal(err)
				}
				if n := read(t, tx) - before; n > 20 {
					t.Errorf("%s: %s reads %d rows of the ledger", mode, query, n)
				}
				if err := tx.Rollback(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// TestOperatorsPlans: what people ask of a large ledger has an index to go by.
func TestOperatorsPlans(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, processed_at) select 'a', '{}', now() from generate_series(1, 20000)`)
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, due_at, finished_at, stuck_at)
		select overlay(md5(id::text) placing encode(substr(int8send(seq), 3), 'hex') from 1 for 12)::uuid, id, seq, type, created_at, '', '', '', '',
		       case when seq % 1000 = 0 then 'dead' when seq % 1000 = 1 then 'retry' else 'delivered' end, 1,
		       case when seq % 1000 = 1 then now() + interval '1 hour' end, case when seq % 1000 <> 1 then now() end, case when seq % 1000 = 0 then now() end
		from outbox_events`)
	for _, table := range []string{"outbox_events", "outbox.deliveries"} {
		pgtest.Exec(t, db, `vacuum analyze `+table)
	}
	ids := pgtest.QueryVal[string](t, db, `select array_agg(id)::text from outbox.deliveries where state = 'dead'`)
	for _, tt := range []struct {
		query, args, index string
		walks              bool // as listener/operate/tx.go has it for what is done to some deliveries
	}{
		{"find_stuck", "null, null, null, '{dead}', null, null, null, 100", "deliveries_stuck", false},
		{"find_deliveries", "'" + ids + "', null, null, null, null, null, null, 100", "deliveries_pkey", false},
		{"find_deliveries", "null, null, null, null, null, null, null, 100", "deliveries_pkey", false},
		{"judge_deliveries", "'" + ids + "'", "deliveries_moved", true},
		{"find_kin", "'" + ids + "'", "deliveries_pkey on deliveries d  ", true},
		{"lock_keys_of", "'" + ids + "'", "deliveries_pkey", true},
		{"lock_events_of", "'" + ids + "'", "outbox_events_seq", true},
		{"lock_deliveries", "'" + ids + "'", "deliveries_pkey", true},
		{"resume_deliveries", "'{paused: channel sms}', 100", "deliveries_due", false},
		{"count_waiting", "null, '{sms}'", "deliveries_due", false},
	} {
		t.Run(tt.query, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, db)
			settings := `set plan_cache_mode = force_custom_plan`
			if tt.walks {
				settings += `; set enable_seqscan = off; set enable_bitmapscan = off; set enable_hashjoin = off; set enable_mergejoin = off`
			}
			if _, err := conn.Exec(t.Context(), settings); err != nil {
				t.Fatal(err)
			}
			plan := explainWith(t, conn, tt.query, tt.args)
			if !strings.Contains(plan, tt.index) || strings.Contains(plan, "Seq Scan") {
				t.Errorf("the plan is\n%s", plan)
			}
		})
	}
}

// TestDeliveriesByLikeness: what is alike is found by its index.
func TestDeliveriesByLikeness(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, query := range []string{"look_alike", "note_look"} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, db)
			planAsListener(t, conn, query)
			plan := explain(t, conn, query)
			if !regexp.MustCompile(`using deliveries_likeness on deliveries (d|o)  .*\n +Index Cond: `).MatchString(plan) || strings.Contains(plan, "Seq Scan") {
				t.Errorf("the plan is\n%s", plan)
			}
		})
	}
}

func explainWith(t *testing.T, conn *pgx.Conn, query, args string) string {
	t.Helper()
	if _, err := conn.Prepare(t.Context(), query, sql.Query(query)); err != nil {
		t.Fatal(err)
	}
	rows, _ := conn.Query(t.Context(), "explain execute "+query+"("+args+")", pgx.QueryExecModeSimpleProtocol)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// read is how many rows of the ledger, and how many entries of its indexes,
// this transaction has read.
func read(t *testing.T, tx pgx.Tx) (n int) {
	t.Helper()
	if err := tx.QueryRow(t.Context(), `select sum(pg_stat_get_xact_tuples_returned(oid)) from pg_class
		where oid = 'outbox.deliveries'::regclass
		   or oid in (select indexrelid from pg_index where indrelid = 'outbox.deliveries'::regclass)`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func explain(t *testing.T, conn *pgx.Conn, query string) string {
	t.Helper()
	prepared, err := conn.Prepare(t.Context(), query, sql.Query(query))
	if err != nil {
		t.Fatal(err)
	}
	execute := "explain execute " + query
	if n := len(prepared.ParamOIDs); n > 0 {
		execute += "(null" + strings.Repeat(", null", n-1) + ")"
	}
	rows, _ := conn.Query(t.Context(), execute, pgx.QueryExecModeSimpleProtocol)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
