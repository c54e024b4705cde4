//go:build unix

package faultrig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// shape is what migrations make, as lines of text. seq is drawn anew by each
// attempt.
const shape = `select string_agg(line, e'\n' order by line) from (
	select format('%s.%s.%s %s %s', table_schema, table_name, column_name, data_type, is_nullable) as line
	from information_schema.columns where table_schema in ('public', 'outbox')
	union all select format('index %s', indexdef) from pg_indexes where schemaname in ('public', 'outbox')
	union all select format('trigger %s %s', tgname, pg_get_triggerdef(oid)) from pg_trigger where not tgisinternal
	union all select format('constraint %s %s', conname, pg_get_constraintdef(oid)) from pg_constraint where connamespace in ('public'::regnamespace, 'outbox'::regnamespace)
	union all select format('function %s %s', proname, md5(prosrc)) from pg_proc where pronamespace = to_regnamespace('outbox')
	union all select format('event %s waits %s', type, seq is not null and processed_at is null) from outbox_events) as all_of_it`

// application is a table of events that was there before, with three that wait.
const application = `create table outbox_events (id uuid primary key default gen_random_uuid(), type text not null,
		payload jsonb not null, created_at timestamptz not null default now(), processed_at timestamptz);
	insert into outbox_events (type, payload) select 'e' || n, '{}' from generate_series(1, 3) as n`

// TestMigrationDies: a migration that is killed anywhere is ended by the next one,
// and what is there then is what it is without a kill.
func TestMigrationDies(t *testing.T) {
	t.Parallel()
	all, left := newWorlds(t), &budget{most: shortRuns}
	if *runsFlag > 0 {
		left.most = 0
	}
	for _, tt := range []struct{ name, before string }{{"adopted", application}, {"new", ""}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := all.get(t)
			defer all.put(w)
			whole := w.fresh(t, tt.before)
			if died, err := w.migrate(t.Context(), whole, ""); died || err != nil {
				t.Fatal(died, err)
			}
			want := w.shape(t, whole)
			for n := 1; ; n++ {
				left.spend(t)
				db := w.fresh(t, tt.before)
				died, err := w.migrate(t.Context(), db, fmt.Sprintf("K19=kill@%d", n))
				if err != nil {
					t.Fatal(err)
				}
				if !died {
					if n < 5 {
						t.Errorf("it has only %d places to die at", n-1)
					}
					t.Logf("killed at %d places", n-1)
					return
				}
				if died, err := w.migrate(t.Context(), db, ""); died || err != nil {
					t.Fatalf("after a kill at place %d: %v", n, err)
				}
				if got := w.shape(t, db); got != want {
					t.Errorf("after a kill at place %d:\n%s\nwant\n%s", n, got, want)
				}
			}
		})
	}
}

// fresh makes an empty database in which a statement was run.
func (w *World) fresh(t *testing.T, before string) (name string) {
	t.Helper()
	w.databases++
	name = fmt.Sprintf("migrated_%d", w.databases)
	if err := w.exec(t.Context(), "postgres", "create database "+name); err != nil {
		t.Fatal(err)
	}
	if before != "" {
		if err := w.exec(t.Context(), name, before); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// migrate runs listener migrate on a database, and says whether it died at its
// failpoint.
func (w *World) migrate(ctx context.Context, database, failpoint string) (died bool, err error) {
	cmd := exec.CommandContext(ctx, w.program, "migrate", "--backlog=deliver")
	cmd.Dir = os.TempDir()
	cmd.Env = append(surroundings(), "DATABASE_URL="+w.server.URL(database), "OUTBOX_FAILPOINT="+failpoint)
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && !exit.Exited() && strings.Contains(string(out), "failpoint K19 kill") {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("listener migrate: %w\n%s", err, out)
	}
	return false, nil
}

func (w *World) shape(t *testing.T, database string) (lines string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.server.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), shape).Scan(&lines); err != nil {
		t.Fatal(err)
	}
	return lines
}
