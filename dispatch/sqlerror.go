package dispatch

import (
	"regexp"
	"strings"
)

// SQLMessage is the message of an error of Postgres without the values in it,
// for the ledger and the logs: `invalid input syntax for type integer: "x"`
// comes back with … in place of "x". What Postgres calls by name stays: the
// column, the table, the constraint.
//
// Everything that is quoted is a value unless the word before it says otherwise,
// and since a value may have quotes itself, it goes up to the last one of the
// message. So does all that is quoted where the server speaks another language.
// Give it the message alone: detail, hint and context are full of values.
func SQLMessage(message string) string {
	at := 0
	for {
		q := strings.IndexAny(message[at:], quotes)
		if q < 0 {
			break
		}
		at += q
		if name := quotedName.FindString(message[at:]); name != "" && namer.MatchString(message[:at]) {
			at += len(name)
			continue
		}
		rest := ""
		if last := strings.LastIndexAny(message, quotes); last > at {
			rest = strings.TrimLeft(message[last:], quotes)
		}
		message = message[:at] + "…" + rest
		break
	}
	return byteValues.ReplaceAllString(message, "…")
}

// quotes are what the translations of Postgres set values in.
const quotes = `"«»“”„‟『』「」`

var (
	// namer is a word that a name follows.
	namer = regexp.MustCompile(`\b(?:column|table|relation|view|index|sequence|constraint|trigger|policy|schema|database|` +
		`function|procedure|aggregate|type|domain|role|language|extension|encoding|field|record|reference|entry for table) $`)
	quotedName = regexp.MustCompile(`^"[\pL_][\pL\pN_$.]*"`)

	// byteValues are bytes of a value that is no text: 0xe4 0x20.
	byteValues = regexp.MustCompile(`0x[0-9a-fA-F]{2}(?: 0x[0-9a-fA-F]{2})*`)
)
