// Package sql holds every SQL statement that is not a migration, one a file.
package sql

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Replaced is the claim of a delivery in whose place there is a newer one, which is nobody's
// who works: see queries/replay_deliveries.sql and triggers/reopen.sql. In queries and
// triggers {{replaced}} stands for it.
const Replaced = "ffffffff-ffff-5fff-8fff-ffffffffffff"

// PutOff is the claim of an event that nobody has before its lease has run out, and that no listener ended
// with: see queries/release_events.sql and queries/claim_events.sql, where {{put_off}} stands for it.
const PutOff = "ffffffff-ffff-5fff-8fff-fffffffffffe"

//go:embed queries/*.sql triggers/*.sql grants.sql grants_operator.sql
var files embed.FS

// Query returns the statement in queries/name.sql. It panics when there is
// none, since that is a programming error; sql_test.go reads them all.
func Query(name string) string {
	b, err := files.ReadFile("queries/" + name + ".sql")
	if err != nil {
		panic(fmt.Sprintf("sql: no query %q", name))
	}
	return filled(b)
}

// filled is the text of a query or a trigger as Postgres gets it.
func filled(text []byte) string {
	return strings.NewReplacer("{{replaced}}", Replaced, "{{put_off}}", PutOff).Replace(string(text))
}

// Grants returns the statements that give the daemon's role its rights.
// quotedRole must already be quoted as an identifier.
func Grants(quotedRole string) string { return grants("grants.sql", quotedRole) }

// OperatorGrants returns the statements that give the role of people who
// operate its rights. quotedRole must already be quoted as an identifier.
func OperatorGrants(quotedRole string) string { return grants("grants_operator.sql", quotedRole) }

func grants(file, quotedRole string) string {
	b, err := files.ReadFile(file)
	if err != nil {
		panic("sql: no " + file)
	}
	return strings.ReplaceAll(string(b), "{{role}}", quotedRole)
}

// Script is one file of triggers/, applied after each migration.
type Script struct {
	Name string // file name without folder
	SQL  string
}

// Triggers returns the files of triggers/ in the order of their names.
func Triggers() []Script {
	names, err := fs.Glob(files, "triggers/*.sql")
	if err != nil {
		panic(err)
	}
	scripts := make([]Script, 0, len(names))
	for _, n := range names {
		b, err := files.ReadFile(n)
		if err != nil {
			panic(err)
		}
		scripts = append(scripts, Script{Name: path.Base(n), SQL: filled(b)})
	}
	return scripts
}
