package dispatch

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Validate reports what keeps s from being run, in a sentence that has nothing
// of its arguments in it. Whether the database takes it is for the database to
// say.
func (s SQL) Validate() error {
	switch word := firstWord(s.Statement); word {
	case "":
		return errors.New("the statement is empty")
	case "insert", "update", "delete", "merge", "with", "select", "call":
		return nil
	default:
		return fmt.Errorf("the statement begins with %q; accepted are insert, update, delete, merge, with, select and call, "+
			"since it runs within the transaction that records it", word)
	}
}

// Calls reports whether the statement calls a procedure. What that does, no
// database can plan ahead.
func (s SQL) Calls() bool { return firstWord(s.Statement) == "call" }

// firstWord returns the first word of a statement in lower case, behind comments.
func firstWord(sql string) string {
	for {
		sql = strings.TrimLeftFunc(sql, unicode.IsSpace)
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			_, sql, _ = strings.Cut(sql, "*/")
		default:
			end := strings.IndexFunc(sql, func(r rune) bool { return !unicode.IsLetter(r) })
			if end < 0 {
				end = len(sql)
			}
			if end == 0 && sql != "" {
				return sql[:1]
			}
			return strings.ToLower(sql[:end])
		}
	}
}
