// Package migrations brings a database to the schema that this program
// needs, and takes it away again. It is what `listener migrate` runs; the
// daemon itself only ever calls Check.
//
// The numbered files go forward only, each in a transaction of its own unless
// its first line says "-- no transaction". What was applied is recorded in
// outbox.schema_history with a checksum. The scripts of sql/triggers/ follow
// them and are applied again whenever they have changed.
//
// The application's table is altered under a lock that waits a fraction of a
// second at a time, so that writers are never held up for longer than that; and
// so is the ledger, which listeners write to.
package migrations

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"github.com/outbox-listener/outbox-listener/sql"
)

//go:embed *.sql
var embedded embed.FS

// The two kinds of rows in outbox.schema_history.
const (
	kindMigration = "migration"
	kindTrigger   = "trigger"
)

// adoption is the version of the file that gives the application's table our
// columns. What must be known or asked beforehand is asked before any file.
const adoption = 3

// The tables that indexes are on, and that others may have locks on.
const (
	eventsTable     = "public.outbox_events"
	deliveriesTable = "outbox.deliveries"
)

// file is one script, numbered or from sql/triggers/.
type file struct {
	kind     string
	version  int // 0 for a trigger script
	name     string
	sql      string
	checksum string // of sql; in hex
	tx       bool   // runs inside a transaction

	trigger string // the trigger that it makes; "" when it makes none
	index   index  // the index that it builds or drops concurrently; zero when it does neither
}

// index is one that a file is about which cannot run inside a transaction.
type index struct {
	table string // that it is on, with schema
	name  string // without
	drop  bool   // the file drops it
}

func (i index) String() string {
	schema, _, _ := strings.Cut(i.table, ".")
	return schema + "." + i.name
}

var (
	fileName    = regexp.MustCompile(`^(\d{4})_[a-z0-9_]+\.sql$`)
	createsLine = regexp.MustCompile(`^-- creates: trigger ([a-z_]+) on public\.outbox_events\n`)
	createIndex = regexp.MustCompile(`(?m)^create (?:unique )?index concurrently if not exists ([a-z_]+) on (public\.outbox_events|outbox\.deliveries) `)
	dropIndex   = regexp.MustCompile(`(?m)^drop index concurrently if exists outbox\.(deliveries_[a-z_]+);`)
)

// noTransaction is the first line of a file that cannot run inside one.
const noTransaction = "-- no transaction\n"

func newFile(kind, name, text string) file {
	text = strings.ReplaceAll(text, "\r\n", "\n") // the same checksum wherever it was checked out
	sum := sha256.Sum256([]byte(text))
	f := file{kind: kind, name: name, sql: text, checksum: hex.EncodeToString(sum[:])}
	f.tx = !strings.HasPrefix(text, noTransaction)
	if m := createsLine.FindStringSubmatch(text); m != nil {
		f.trigger = m[1]
	}
	if m := createIndex.FindStringSubmatch(text); m != nil {
		f.index = index{table: m[2], name: m[1]}
	}
	if m := dropIndex.FindStringSubmatch(text); m != nil {
		f.index = index{table: deliveriesTable, name: m[1], drop: true}
	}
	return f
}

// alters returns the table on which the script takes a lock that keeps its writers
// out, and which others write to: the application's, or the ledger. "" where it is neither.
func (f file) alters() string {
	switch {
	case f.trigger != "" || strings.Contains(f.sql, "alter table public.outbox_events"):
		return eventsTable
	case strings.Contains(f.sql, "alter table outbox.deliveries"):
		return deliveriesTable
	}
	return ""
}

// numbered returns the migrations of fsys in order. They must be numbered
// from 1 on without a gap.
func numbered(fsys fs.FS) ([]file, error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, err
	}
	files := make([]file, 0, len(names))
	for i, name := range names {
		m := fileName.FindStringSubmatch(name)
		if m == nil {
			return nil, fmt.Errorf("migration %q is not named like 0001_name.sql", name)
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		f := newFile(kindMigration, name, string(text))
		if f.version, err = strconv.Atoi(m[1]); err != nil {
			return nil, err
		}
		if f.version != i+1 {
			return nil, fmt.Errorf("migration %s stands where number %d belongs", name, i+1)
		}
		if !f.tx && f.index == (index{}) {
			return nil, fmt.Errorf("migration %s runs without a transaction but neither builds nor drops an index that could be found", name)
		}
		files = append(files, f)
	}
	if len(files) < adoption {
		return nil, errors.New("migrations are missing")
	}
	return files, nil
}

// triggerScripts returns the scripts of sql/triggers/ in order.
func triggerScripts() ([]file, error) {
	var files []file
	for _, s := range sql.Triggers() {
		f := newFile(kindTrigger, s.Name, s.SQL)
		if f.trigger == "" || !f.tx {
			return nil, fmt.Errorf("trigger script %s does not begin with a line \"-- creates: trigger NAME on public.outbox_events\"", s.Name)
		}
		files = append(files, f)
	}
	return files, nil
}

// scripts is everything that this binary can apply.
type scripts struct {
	migrations []file
	triggers   []file
}

func load() (scripts, error) {
	m, err := numbered(embedded)
	if err != nil {
		return scripts{}, err
	}
	t, err := triggerScripts()
	return scripts{m, t}, err
}

// latest is the version that a migrated database has.
func (s scripts) latest() int { return len(s.migrations) }
