package pgtest

import "testing"

// Role makes a role that may log in with the password "secret" and has no rights, named
// after db and suffix so that it is the test's own. It is dropped with what it owns
// when the test ends.
func Role(t testing.TB, db *DB, suffix string) string {
	t.Helper()
	name := db.Name + "_" + suffix
	Exec(t, db, `create role `+name+` login password 'secret'`)
	t.Cleanup(func() {
		Exec(t, db, `drop owned by `+name+` cascade`)
		Exec(t, db, `drop role `+name)
	})
	return name
}
