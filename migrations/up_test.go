package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/migrations"
)

func TestFresh(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	rep := up(t, db, migrations.Options{})
	if !rep.Created || rep.Adopted || rep.From != 0 || rep.To != latest || len(rep.Applied) != all || len(rep.Warnings) != 0 {
		t.Errorf("report %+v", rep)
	}
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) select 'a', '{}' from generate_series(1, 3)`)
	if got := pgtest.QueryVals[int64](t, db, `select seq from outbox_events order by seq`); len(got) != 3 || got[0] != 1 || got[2] != 3 {
		t.Errorf("seqs %v", got)
	}
	if err := migrations.Check(t.Context(), db.Pool); err != nil {
		t.Errorf("Check: %v", err)
	}
}

func TestTwiceTouchesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	before := catalog(t, db)
	versions := func() []string {
		return pgtest.QueryVals[string](t, db, `
			select xmin::text || ' ' || name from outbox.schema_history union all
			select xmin::text || ' state' from outbox.state union all
			select xmin::text || ' ' || tgname from pg_trigger where not tgisinternal order by 1`)
	}
	rows := versions()

	// Somebody has the table for himself: a second run does not even ask.
	holder := connect(t, db, "")
	exec(t, holder, `begin`)
	exec(t, holder, `lock table outbox_events in access exclusive mode`)
	rep := up(t, db, quick)
	exec(t, holder, `rollback`)

	if len(rep.Applied) != 0 || rep.From != latest || rep.To != latest {
		t.Errorf("report %+v", rep)
	}
	sameCatalog(t, catalog(t, db), before)
	if got := versions(); strings.Join(got, "\n") != strings.Join(rows, "\n") {
		t.Errorf("rows were written:\n%q\n%q", rows, got)
	}
}

func TestFourAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		setup string
	}{{"nothing there", `select`}, {"a table to adopt", appTable}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Empty(t)
			pgtest.Exec(t, db, tt.setup)
			var (
				wg      sync.WaitGroup
				reports [4]migrations.Report
				errs    [4]error
			)
			for i := range reports {
				conn := connect(t, db, "")
				wg.Go(func() { reports[i], errs[i] = migrations.Up(t.Context(), conn, migrations.Options{}) })
			}
			wg.Wait()
			worked := 0
			for i, rep := range reports {
				if errs[i] != nil {
					t.Errorf("runner %d: %v", i, errs[i])
				}
				if rep.To != latest {
					t.Errorf("runner %d left version %d", i, rep.To)
				}
				if len(rep.Applied) > 0 {
					worked++
				}
			}
			if worked != 1 {
				t.Errorf("%d runners applied something, one should", worked)
			}
		})
	}
}

// TestInterrupted cuts runs off at ever later moments, until one gets through.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	db, whole := pgtest.Empty(t), pgtest.Empty(t)
	for _, d := range []*pgtest.DB{db, whole} {
		pgtest.Exec(t, d, appTable)
		pgtest.Exec(t, d, `insert into outbox_events (type, payload, created_at)
			select 'old', '{}', now() - i * interval '1 minute' from generate_series(1, 5000) as i`)
	}
	deliver := migrations.Options{Backlog: migrations.Backlog{Choice: migrations.ChoiceDeliver}}
	up(t, whole, deliver)

	cut := 0
	for limit := time.Millisecond; ; limit += 2 * time.Millisecond {
		conn := connect(t, db, "")
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := migrations.Up(ctx, conn, deliver)
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			t.Fatalf("after %v: %v", limit, err)
		}
		cut++
	}
	t.Logf("%d runs were cut off", cut)
	if cut < 3 {
		t.Errorf("only %d runs were cut off", cut)
	}
	sameCatalog(t, catalog(t, db), catalog(t, whole))
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where seq is null`); n != 0 {
		t.Errorf("%d events have no place", n)
	}
	if n := pgtest.QueryVal[int](t, db, `
		select count(*) from (select seq, lag(seq) over (order by created_at, id) as before from outbox_events) as e where seq <= before`); n != 0 {
		t.Errorf("%d events are out of order", n)
	}
}

func TestHistoryIsVerified(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, sql string
		want      []string
	}{
		{"a changed file", `update outbox.schema_history set checksum = 'beef' where version = 2`,
			[]string{"0002_events.sql was changed after it was applied", "beef"}},
		{"another file", `update outbox.schema_history set name = '0002_other.sql' where version = 2`,
			[]string{"0002_other.sql", "do not belong together"}},
		{"a gap", `delete from outbox.schema_history where version = 2`,
			[]string{"gap", "version 2 is not"}},
		{"a newer database", fmt.Sprintf(`insert into outbox.schema_history (name, kind, version, checksum) select '9' || v || '_x.sql', 'migration', v, '' from generate_series(%d, %d) as v`, latest+1, latest+3),
			[]string{fmt.Sprintf("this database has schema version %d, this binary knows %d: update listener", latest+3, latest)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			pgtest.Exec(t, db, tt.sql)
			before := catalog(t, db)
			_, err := migrations.Up(t.Context(), connect(t, db, ""), migrations.Options{})
			wantError(t, err, tt.want...)
			sameCatalog(t, catalog(t, db), before)
			st, err := migrations.Status(t.Context(), connect(t, db, ""))
			if err != nil || st.UpToDate || len(st.Problems) == 0 {
				t.Errorf("Status: %+v, %v", st, err)
			}
		})
	}
}

func TestIndexIsRepaired(t *testing.T) {
	t.Parallel()
	const first, second = "0004_events_seq_index.sql", "0005_deliveries_moved.sql"
	last := from(4)
	for _, tt := range []struct{ name, sql, want string }{
		{"invalid and not on record", `update pg_index set indisvalid = false where indexrelid = 'outbox_events_seq'::regclass;
			delete from outbox.schema_history where version >= 4`, last},
		{"invalid although on record", `update pg_index set indisvalid = false where indexrelid = 'outbox_events_seq'::regclass`, first},
		{"dropped", `drop index outbox_events_seq`, first},
		{"built but not on record", `delete from outbox.schema_history where version >= 4`, last},
		{"the ledger's is invalid", `update pg_index set indisvalid = false where indexrelid = 'outbox.deliveries_moved'::regclass`, second},
		{"the ledger's is dropped", `drop index outbox.deliveries_moved`, second},
		{"half dropped", `create index deliveries_event on outbox.deliveries (event_seq);
			update pg_index set indisvalid = false where indexrelid = 'outbox.deliveries_event'::regclass;
			delete from outbox.schema_history where version >= 6`, from(6)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			want := catalog(t, db)
			pgtest.Exec(t, db, tt.sql)
			rep := up(t, db, migrations.Options{})
			if got := strings.Join(rep.Applied, " "); got != tt.want {
				t.Errorf("applied %s", got)
			}
			sameCatalog(t, catalog(t, db), want)
		})
	}
}

// TestFromVersion4: a ledger in use loses the index of all its rows and gets
// one of those that need it.
func TestFromVersion4(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	want := catalog(t, db)
	pgtest.Exec(t, db, `drop index outbox.deliveries_moved; create index deliveries_event on outbox.deliveries (event_seq);
		drop function outbox.reopen() cascade; drop function outbox.deliveries_of(bigint);
		delete from outbox.schema_history where version > 4 or name = 'reopen.sql'`)
	// What an event that was opened again looks like there.
	pgtest.Exec(t, db, `insert into outbox_events (type, payload, processed_at) select 'a', '{}', now() from generate_series(1, 1000)`)
	pgtest.Exec(t, db, `insert into outbox.deliveries (id, event_id, event_seq, event_type, event_created_at, route, step, channel, recipient, state, attempts, finished_at)
		select overlay(md5(id::text) placing encode(substr(int8send(seq), 3), 'hex') from 1 for 12)::uuid, id, seq, type, created_at, '', '', '', '', 'dead', 1, now()
		from outbox_events`)
	pgtest.Exec(t, db, `with moved as (update outbox_events set seq = nextval('outbox_events_seq_seq') where seq % 50 = 0 returning id, seq)
		update outbox.deliveries set event_seq = seq from moved where event_id = moved.id`)

	// Somebody who has looked at the ledger holds up the drop, and nobody else.
	reader, writer := connect(t, db, ""), connect(t, db, "")
	exec(t, reader, `begin; select count(*) from outbox.deliveries`)
	_, err := migrations.Up(t.Context(), connect(t, db, ""), quick)
	wantError(t, err, "0006_drop_deliveries_event.sql", "outbox.deliveries was in use", fmt.Sprintf("pid %d", reader.PgConn().PID()), "the next run drops")
	exec(t, writer, `set lock_timeout = '1s'; update outbox.deliveries set attempts = 2 where event_seq = 7`)
	exec(t, reader, `rollback`)

	if rep := up(t, db, quick); strings.Join(rep.Applied, " ") != from(6)+" reopen.sql" || rep.From != 5 || rep.To != latest {
		t.Errorf("report %+v", rep)
	}
	sameCatalog(t, catalog(t, db), want)
	if n := pgtest.QueryVal[int](t, db, `select reltuples::integer from pg_class where oid = 'outbox.deliveries_moved'::regclass`); n != 20 {
		t.Errorf("the index has %d entries, want 20", n)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events as e
		where (select count(*) from outbox.deliveries_of(e.seq)) <> 1
		   or (select event_id from outbox.deliveries where id in (select outbox.deliveries_of(e.seq))) <> e.id`); n != 0 {
		t.Errorf("%d of 1000 events have not their delivery", n)
	}
	pgtest.Exec(t, db, `update outbox_events set processed_at = null`)
	if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events as e join outbox.deliveries as d on d.event_id = e.id and d.event_seq = e.seq`); n != 1000 {
		t.Errorf("%d of 1000 deliveries followed their events", n)
	}
	if _, err := migrations.Uninstall(t.Context(), connect(t, db, ""), migrations.UninstallOptions{}); err != nil {
		t.Errorf("Uninstall: %v", err)
	}
}

// TestLedgerInUse: somebody who has looked at the ledger keeps a change of it waiting, and
// is named; listeners that write there queue behind it no longer than one lock timeout.
func TestLedgerInUse(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	want := catalog(t, db)
	pgtest.Exec(t, db, `delete from outbox.schema_history where version > 16`)
	reader := connect(t, db, "")
	exec(t, reader, `begin; select count(*) from outbox.deliveries`)
	_, err := migrations.Up(t.Context(), connect(t, db, ""), quick)
	wantError(t, err, "0017_receipts.sql", "outbox.deliveries was in use", fmt.Sprintf("pid %d", reader.PgConn().PID()), "nothing was left half done")
	if _, ok := errors.AsType[*migrations.LockedError](err); !ok {
		t.Errorf("a %T", err)
	}
	exec(t, reader, `rollback`)
	if rep := up(t, db, quick); strings.Join(rep.Applied, " ") != from(17) {
		t.Errorf("report %+v", rep)
	}
	sameCatalog(t, catalog(t, db), want)
}

// A build that fails for real leaves an invalid index behind.
func TestIndexBuildFails(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	pgtest.Exec(t, db, appTable)
	other := connect(t, db, "")
	exec(t, other, `begin isolation level repeatable read`)
	exec(t, other, `select 1`) // an old snapshot, for which the build waits
	_, err := migrations.Up(t.Context(), connect(t, db, ""), quick)
	wantError(t, err, "0004_events_seq_index.sql", "idle in transaction", "the next run")
	if _, ok := errors.AsType[*migrations.LockedError](err); !ok {
		t.Errorf("a %T", err)
	}
	exec(t, other, `rollback`)
	rep := up(t, db, quick)
	if len(rep.Applied) != all-3 || rep.From != 3 {
		t.Errorf("report %+v", rep)
	}
	if n := pgtest.QueryVal[int](t, db, `select count(*) from pg_index where not indisvalid`); n != 0 {
		t.Errorf("%d invalid indexes are left", n)
	}
}

func TestTriggersAreKept(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	want := catalog(t, db)

	pgtest.Exec(t, db, `drop trigger outbox_events_wake on outbox_events`)
	if rep := up(t, db, migrations.Options{}); fmt.Sprint(rep.Applied) != "[wake.sql]" {
		t.Errorf("a missing trigger: applied %v", rep.Applied)
	}
	sameCatalog(t, catalog(t, db), want)

	pgtest.Exec(t, db, `update outbox.schema_history set checksum = 'old' where name = 'reopen.sql'`)
	if rep := up(t, db, migrations.Options{}); fmt.Sprint(rep.Applied) != "[reopen.sql]" {
		t.Errorf("a changed script: applied %v", rep.Applied)
	}
	sameCatalog(t, catalog(t, db), want)

	// What an operator has disabled stays so, also through a change.
	pgtest.Exec(t, db, `alter table outbox_events disable trigger outbox_events_wake, enable always trigger outbox_events_seq`)
	disabled := catalog(t, db)
	if rep := up(t, db, migrations.Options{}); len(rep.Applied) != 0 {
		t.Errorf("a disabled trigger: applied %v", rep.Applied)
	}
	pgtest.Exec(t, db, `update outbox.schema_history set checksum = 'old' where kind = 'trigger'`)
	if rep := up(t, db, migrations.Options{}); len(rep.Applied) != 3 {
		t.Errorf("changed scripts: applied %v", rep.Applied)
	}
	sameCatalog(t, catalog(t, db), disabled)
	st, err := migrations.Status(t.Context(), connect(t, db, ""))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(st.Triggers); got != "[{outbox_events_reopen enabled} {outbox_events_seq always} {outbox_events_wake disabled}]" {
		t.Errorf("triggers %s", got)
	}
	if !st.UpToDate || len(st.Problems) != 1 || !strings.Contains(st.Problems[0], "outbox_events_wake is disabled") {
		t.Errorf("status %+v", st)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	st, err := migrations.Status(t.Context(), connect(t, db, ""))
	if err != nil || st.Version != 0 || st.Latest != latest || st.UpToDate || len(st.Files) != all || st.Files[0].State != migrations.FilePending {
		t.Errorf("before: %+v, %v", st, err)
	}
	up(t, db, migrations.Options{})
	st, err = migrations.Status(t.Context(), connect(t, db, ""))
	if err != nil || st.Version != latest || !st.UpToDate || !st.BacklogDone || st.Files[all-1].State != migrations.FileApplied ||
		st.AdoptedAt.IsZero() || st.Files[0].AppliedAt.IsZero() || len(st.Problems) != 0 {
		t.Errorf("after: %+v, %v", st, err)
	}
	pgtest.Exec(t, db, `alter table outbox_events drop column seq cascade`)
	st, err = migrations.Status(t.Context(), connect(t, db, ""))
	if err != nil || st.UpToDate || !strings.Contains(strings.Join(st.Problems, "\n"), "our columns are gone") {
		t.Errorf("without a column: %+v, %v", st, err)
	}
}

// TestRoleDefaults: what was set for the role, to mend some other program,
// must not matter.
func TestRoleDefaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []string{
		`default_transaction_isolation = 'serializable'`,
		`default_transaction_isolation = 'repeatable read'`,
		`default_transaction_read_only = on`,
		`search_path = ''`,
		`statement_timeout = '50ms'`,
		`lock_timeout = '1ms'`,
		`idle_in_transaction_session_timeout = '50ms'`,
		`standard_conforming_strings = off`,
		`datestyle = 'German'`,
		`timezone = 'Asia/Kathmandu'`,
		`client_min_messages = debug5`,
		`idle_session_timeout = '1s'`, // the test itself may take a while between connecting and asking
		`transaction_timeout = '50ms'`,
	} {
		t.Run(tt, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Empty(t)
			setting, _, _ := strings.Cut(tt, " ")
			if pgtest.QueryVal[int](t, db, `select count(*) from pg_settings where name = $1`, setting) == 0 {
				t.Skip("this Postgres does not have it")
			}
			role := pgtest.Role(t, db, "owner")
			pgtest.Exec(t, db, `grant create on database `+db.Name+` to `+role)
			pgtest.Exec(t, db, `grant create on schema public to `+role)
			pgtest.Exec(t, db, `alter role `+role+` set `+tt)
			pgtest.Exec(t, db, appTable)
			pgtest.Exec(t, db, `alter table outbox_events owner to `+role)
			pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('a', '{}')`)
			conn := connect(t, db, role)
			_, err := migrations.Up(t.Context(), conn, migrations.Options{})
			if _, ok := errors.AsType[*migrations.BacklogError](err); !ok {
				t.Fatalf("Up: %v; want the question", err)
			}
			rep, err := migrations.Up(t.Context(), conn, migrations.Options{Backlog: migrations.Backlog{Choice: migrations.ChoiceDeliver}})
			if err != nil || rep.To != latest || rep.Placed != 1 {
				t.Fatalf("Up: %+v, %v", rep, err)
			}
			if err := migrations.Grant(t.Context(), connect(t, db, role), role); err != nil {
				t.Errorf("Grant: %v", err)
			}
			if st, err := migrations.Status(t.Context(), connect(t, db, role)); err != nil || !st.UpToDate {
				t.Errorf("Status: %+v, %v", st, err)
			}
			if err := migrations.Check(t.Context(), connect(t, db, role)); err != nil {
				t.Errorf("Check: %v", err)
			}
			if _, err := migrations.Uninstall(t.Context(), connect(t, db, role), migrations.UninstallOptions{}); err != nil {
				t.Errorf("Uninstall: %v", err)
			}
		})
	}
}

func TestInsideATransaction(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	conn := connect(t, db, "")
	exec(t, conn, `begin`)
	_, err := migrations.Up(t.Context(), conn, migrations.Options{})
	wantError(t, err, "inside a transaction")
}

// The sequence must not begin again below the floor.
func TestTruncateKeepsTheSequence(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	insert := `insert into outbox_events (type, payload) values ('a', '{}')`
	pgtest.Exec(t, db, insert)
	pgtest.Exec(t, db, `truncate outbox_events restart identity cascade`)
	pgtest.Exec(t, db, insert)
	if seq := pgtest.QueryVal[int](t, db, `select seq from outbox_events`); seq != 2 {
		t.Errorf("seq %d after a truncate, want 2", seq)
	}
}
