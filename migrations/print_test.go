package migrations_test

import (
	osexec "os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/migrations"
)

func printed(t *testing.T, opt migrations.PrintOptions) string {
	t.Helper()
	var b strings.Builder
	if err := migrations.Print(&b, opt); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// byHand runs a printed script part by part, as people do.
func byHand(t *testing.T, conn *pgx.Conn, script string) error {
	t.Helper()
	for part := range strings.SplitSeq(script, "\n-- ==== ") {
		if _, err := conn.Exec(t.Context(), "-- "+part); err != nil {
			return err
		}
	}
	return nil
}

func TestPrintedIsUp(t *testing.T) {
	t.Parallel()
	want := pgtest.New(t)
	for _, tt := range []struct {
		name, setup string
		opt         migrations.PrintOptions
		placed      int
	}{
		{"nothing there", `select`, migrations.PrintOptions{}, 0},
		{"a table", appTable, migrations.PrintOptions{}, 0},
		{"deliver", appTable, migrations.PrintOptions{Backlog: migrations.Backlog{Choice: migrations.ChoiceDeliver}}, 20},
		{"skip", appTable, migrations.PrintOptions{Backlog: migrations.Backlog{Choice: migrations.ChoiceSkip}}, 0},
		{"since", appTable, migrations.PrintOptions{Backlog: migrations.Backlog{Choice: migrations.ChoiceSince, Since: time.Now().Add(-150 * time.Minute)}}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Empty(t)
			pgtest.Exec(t, db, tt.setup)
			if tt.opt.Backlog.Choice != "" {
				pgtest.Exec(t, db, `insert into outbox_events (type, payload, created_at) select 'a', '{}', now() - i * interval '1 hour' from generate_series(1, 20) as i`)
			}
			if err := byHand(t, connect(t, db, ""), printed(t, tt.opt)); err != nil {
				t.Fatal(err)
			}
			sameCatalog(t, catalog(t, db), catalog(t, want))
			st, err := migrations.Status(t.Context(), connect(t, db, ""))
			if err != nil || !st.UpToDate || len(st.Problems) != 0 {
				t.Errorf("Status: %+v, %v", st, err)
			}
			if n := pgtest.QueryVal[int](t, db, places); n != tt.placed {
				t.Errorf("%d events have a place, want %d", n, tt.placed)
			}
			if rep := up(t, db, migrations.Options{}); len(rep.Applied) != 0 || rep.Placed != 0 {
				t.Errorf("Up found something to do: %+v", rep)
			}
			if _, err := migrations.Uninstall(t.Context(), connect(t, db, ""), migrations.UninstallOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPrintedAsks(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	pgtest.Exec(t, db, appTable)
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('a', '{}')`)
	before := catalog(t, db)
	err := byHand(t, connect(t, db, ""), printed(t, migrations.PrintOptions{}))
	wantError(t, err, "events wait in public.outbox_events", "--backlog")
	sameCatalog(t, catalog(t, db), before)
}

func TestPrintAfter(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	want := catalog(t, db)
	pgtest.Exec(t, db, `drop index outbox_events_seq, outbox.deliveries_moved; create index deliveries_event on outbox.deliveries (event_seq);
		delete from outbox.schema_history where version > 3; update outbox.schema_history set checksum = 'old' where kind = 'trigger'`)
	if err := byHand(t, connect(t, db, ""), printed(t, migrations.PrintOptions{After: 3})); err != nil {
		t.Fatal(err)
	}
	sameCatalog(t, catalog(t, db), want)
	if rep := up(t, db, migrations.Options{}); len(rep.Applied) != 0 {
		t.Errorf("Up found something to do: %+v", rep)
	}
	if err := migrations.Print(&strings.Builder{}, migrations.PrintOptions{After: latest + 1}); err == nil {
		t.Error("took a version that there is not")
	}
}

// TestPrintedWaitsNotForLong: whatever keeps others from a table has a lock timeout, as
// with Up.
func TestPrintedWaitsNotForLong(t *testing.T) {
	t.Parallel()
	for part := range strings.SplitSeq(printed(t, migrations.PrintOptions{}), "\n-- ==== ") {
		name, _, _ := strings.Cut(part, "\n")
		for _, table := range []string{"public.outbox_events", "outbox.deliveries"} {
			lock := "lock table " + table + " in share update exclusive mode;"
			if strings.Contains(part, "alter table "+table) && (!strings.Contains(part, lock) || !strings.Contains(part, "set local lock_timeout = '200ms'")) {
				t.Errorf("%s waits for %s as long as it takes", name, table)
			}
		}
	}
}

// TestPrintedWithPsql runs the script the way its first lines say.
func TestPrintedWithPsql(t *testing.T) {
	t.Parallel()
	psql, err := osexec.LookPath("psql")
	if err != nil {
		t.Skip("no psql here")
	}
	db := pgtest.Empty(t)
	cmd := osexec.CommandContext(t.Context(), psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", db.URL)
	cmd.Stdin = strings.NewReader(printed(t, migrations.PrintOptions{}))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if st, err := migrations.Status(t.Context(), connect(t, db, "")); err != nil || !st.UpToDate {
		t.Errorf("Status: %+v, %v", st, err)
	}
}
