package migrations

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestEmbedded(t *testing.T) {
	t.Parallel()
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if all.migrations[adoption-1].name != "0003_events_columns.sql" {
		t.Errorf("the file that adopts is %s", all.migrations[adoption-1].name)
	}
	for _, f := range append(all.migrations, all.triggers...) {
		want := ""
		switch {
		case f.kind == kindTrigger || f.version == adoption:
			want = eventsTable
		case slices.Contains([]int{7, 8, 10, 17, 18}, f.version):
			want = deliveriesTable
		}
		if got := f.alters(); got != want {
			t.Errorf("%s alters %q, want %q", f.name, got, want)
		}
		if f.tx == strings.Contains(f.sql, "concurrently") {
			t.Errorf("%s: tx is %t", f.name, f.tx)
		}
	}
}

func TestNumbered(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		files []string
		want  string
	}{
		{"good", []string{"0001_a.sql", "0002_b.sql", "0003_c.sql"}, ""},
		{"a gap", []string{"0001_a.sql", "0002_b.sql", "0004_c.sql"}, "0004_c.sql stands where number 3 belongs"},
		{"twice", []string{"0001_a.sql", "0002_b.sql", "0002_c.sql"}, "0002_c.sql stands where number 3 belongs"},
		{"a name", []string{"0001_a.sql", "02_b.sql"}, "not named like"},
		{"too few", []string{"0001_a.sql"}, "missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fsys := fstest.MapFS{}
			for _, f := range tt.files {
				fsys[f] = &fstest.MapFile{Data: []byte("select 1;")}
			}
			_, err := numbered(fsys)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
	fsys := fstest.MapFS{"0001_a.sql": &fstest.MapFile{Data: []byte(noTransaction + "vacuum;")}}
	if _, err := numbered(fsys); err == nil || !strings.Contains(err.Error(), "without a transaction") {
		t.Errorf("no transaction and no index: %v", err)
	}
}

func TestChecksumIgnoresLineEnds(t *testing.T) {
	t.Parallel()
	a, b := newFile(kindMigration, "x", "-- no transaction\nselect 1;\n"), newFile(kindMigration, "x", "-- no transaction\r\nselect 1;\r\n")
	if a.checksum != b.checksum || b.tx {
		t.Error("a checkout with CRLF is another file")
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{"55P03": true, "40P01": true, "57014": false, "40001": false} {
		if got := busy(errors.Join(&pgconn.PgError{Code: code})); got != want {
			t.Errorf("busy(%s) = %t", code, got)
		}
	}
	if busy(nil) || busy(errors.New("x")) {
		t.Error("anything is busy")
	}
}

func TestHolderString(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		h    Holder
		want string
	}{
		{Holder{PID: 7}, "pid 7"},
		{Holder{Prepared: "gid"}, `prepared transaction "gid"`},
		{Holder{PID: 7, User: "app", Application: "web\n", State: "active", Age: 1234 * time.Millisecond},
			`pid 7 (role app, application "web\n", active, for 1.2s)`},
	} {
		if got := tt.h.String(); got != tt.want {
			t.Errorf("%s; want %s", got, tt.want)
		}
	}
	if got := list(make([]Holder, 12)); !strings.HasSuffix(got, "and 2 more") {
		t.Error(got)
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "in the future", 3 * time.Second: "3 s ago", 90 * time.Second: "1 min ago",
		47 * time.Hour: "47 h ago", 49 * time.Hour: "2 days ago",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %s; want %s", d, got, want)
		}
	}
}
