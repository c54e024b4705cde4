package dispatch

import "testing"

func TestSQLMessage(t *testing.T) {
	for _, tt := range []struct{ name, message, want string }{
		{"nothing quoted", `division by zero`, `division by zero`},
		{"empty", ``, ``},
		{"a value", `invalid input syntax for type integer: "secret"`, `invalid input syntax for type integer: …`},
		{"a value with quotes in it", `invalid input syntax for type integer: "a"b" of column "c"`, `invalid input syntax for type integer: …`},
		{"words behind a value", `value "99999999999" is out of range for type integer`, `value … is out of range for type integer`},
		{"two values", `invalid value "ab" for "DD"`, `invalid value …`},
		{"names", `null value in column "body" of relation "notes" violates not-null constraint`, `null value in column "body" of relation "notes" violates not-null constraint`},
		{"a constraint", `duplicate key value violates unique constraint "notes_pkey"`, `duplicate key value violates unique constraint "notes_pkey"`},
		{"a name before a value", `column "n" of relation "t" has "secret" in it`, `column "n" of relation "t" has … in it`},
		{"a value where a name would be", `relation "Ann's secret" does not exist`, `relation … does not exist`},
		{"a name that does not end", `relation "notes`, `relation …`},
		{"bytes", `invalid byte sequence for encoding "UTF8": 0xe4 0x62`, `invalid byte sequence for encoding "UTF8": …`},
		{"a token of what a function ran", `syntax error at or near "secret"`, `syntax error at or near …`},
		{"German", `ungültige Eingabesyntax für Typ integer: »secret«`, `ungültige Eingabesyntax für Typ integer: …`},
		{"French", `syntaxe en entrée invalide pour le type integer : « secret »`, `syntaxe en entrée invalide pour le type integer : …`},
		{"an own message", `the booking of "Ann" is closed`, `the booking of … is closed`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := SQLMessage(tt.message); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
