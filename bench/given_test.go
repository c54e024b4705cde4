package bench

import (
	"context"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestGivenServer runs on a server that was given, with a role that may create
// databases and nothing else: what cannot be measured is left out and said, and
// the database of the URL, which has events, stays as it was.
func TestGivenServer(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	ctx := context.Background()
	s, err := openServer(ctx, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	theirs, err := s.migrated(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.drop()
	for _, statement := range []string{
		`create role builder login createdb`,
		`create role guest login`,
		`insert into public.outbox_events (type, payload) select 'order.paid', '{}' from generate_series(1, 10)`,
	} {
		if err := theirs.exec(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	as := func(role string) string {
		u, err := url.Parse(theirs.url)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.User(role)
		return u.String()
	}
	binary := buildListener(t)
	var progress strings.Builder
	o := Options{
		Only: []string{"drain", "wal", "snapshot"}, Quick: true, NoPeers: true,
		Out: t.TempDir(), Listener: binary, Stdout: &progress,
	}
	o.Database = as("guest")
	if _, err := Run(ctx, o); err == nil || !strings.Contains(err.Error(), "the role guest may not create databases") {
		t.Errorf("as a role that may not create databases: %v", err)
	}
	o.Database = as("builder")
	path, err := Run(ctx, o)
	for try := 1; err != nil && try < 4 && strings.Contains(progress.String(), "brought something"); try++ {
		progress.Reset() // a small run on a busy machine has few claims to see
		path, err = Run(ctx, o)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"The server was given (--database)",
		"The role may not CHECKPOINT",
		"**Cannot be run here: the role may not CHECKPOINT: full-page images would be counted**",
		"Claim latency: the server's log is not ours to read",
		"| listener, batch 1000 | ",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the report lacks %q:\n%s", want, b)
		}
	}
	kept, err := value[string](ctx, theirs, `select count(*) || ' events, ' || count(processed_at) || ' processed, '
		|| (select count(*) from pg_tables where schemaname in ('public', 'outbox')) || ' tables, '
		|| (select count(*) from pg_trigger where not tgisinternal) || ' triggers' from public.outbox_events`)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := s.migrated(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.drop()
	want, err := value[string](ctx, fresh, `select '10 events, 0 processed, '
		|| (select count(*) from pg_tables where schemaname in ('public', 'outbox')) || ' tables, '
		|| (select count(*) from pg_trigger where not tgisinternal) || ' triggers'`)
	if err != nil || kept != want {
		t.Errorf("the database of the URL has %s, want %s (%v)", kept, want, err)
	}
	var left []string
	err = withConn(ctx, s.admin, func(conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, `select datname from pg_database where datname like 'outbox_bench_%' and datname <> all ($1)`, []string{theirs.name, fresh.name})
		left, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
