package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, source, want, params string }{
		{"a name", "select * from q where id = :quoteId", "select * from q where id = $1", "quoteId"},
		{"each name once", "select :a, :b, :a", "select $1, $2, $1", "a b"},
		{"a path", "select :payload.x.y_1", "select $1", "payload.x.y_1"},
		{"a sentence goes on", "select :a.", "select $1.", "a"},
		{"casts", "select :id::uuid, x::text", "select $1::uuid, x::text", "id"},
		{"an array", "select any(:ids::uuid[])", "select any($1::uuid[])", "ids[]"},
		{"quotes", `select ':a', ":b", 'it''s :c', E'\':d'`, `select ':a', ":b", 'it''s :c', E'\':d'`, ""},
		{"dollars", "select $$ :a $$, $x$ :b $$ $x$", "select $$ :a $$, $x$ :b $$ $x$", ""},
		{"comments", "select 1 -- :a\n/* :b /* :c */ :d */ + :e", "select 1 -- :a\n/* :b /* :c */ :d */ + $1", "e"},
		{"slices", "select a[1:n], a[:n], a[(:n)]", "select a[1:n], a[:n], a[($1)]", "n"},
		{"a named argument", "select f(x := :v)", "select f(x := $1)", "v"},
		{"the end", "select :a; -- done\n", "select $1 -- done\n", "a"},
		{"a digit behind", "select :a\n1", "select $1\n1", "a"},
		{"words with dollars", "select a$1 from t", "select a$1 from t", ""},
		{"one that may be missing", "select :a?, :b?::text[], :c ?| :d", "select $1, $2::text[], $3 ?| $4", "a? b[]? c d"},
		{"json operators", "select d->'a', d @> :x::jsonb, d ? 'k'", "select d->'a', d @> $1::jsonb, d ? 'k'", "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, err := Parse(tt.source)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, p := range q.Params() {
				name := p.Name()
				if p.List {
					name += "[]"
				}
				if p.Optional {
					name += "?"
				}
				names = append(names, name)
			}
			if got := strings.Join(names, " "); q.statement != tt.want || got != tt.params {
				t.Errorf("%q with %q, want %q with %q", q.statement, got, tt.want, tt.params)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"":                          "line 1, column 1: there is no statement",
		" -- nothing\n":             "line 1, column 1: there is no statement",
		"select 1; drop table x":    "line 1, column 11: a second statement; one is accepted",
		"select\n  $1":              "line 2, column 3: a parameter by number; parameters have names here, such as :quoteId",
		"select 'a":                 "line 1, column 8: the quote has no end; needed is another '",
		"select $x$ a $$":           "line 1, column 8: the text has no end; needed is $x$",
		"select 1 /* /* */":         `line 1, column 10: the comment has no end; needed is "*/"`,
		"select : a":                "line 1, column 8: a colon without a name; a parameter is written :name",
		"select :a$b":               "line 1, column 8: a parameter's name has letters, digits and _ only",
		"select :a::int[], :a":      "line 1, column 19: the parameter :a has a cast to an array in one place and none in another; needed is the same in both",
		"select :a?, :a":            "line 1, column 13: the parameter :a has a ? in one place and none in another; needed is the same in both",
		"select \x00":               "line 1, column 1: the statement is not UTF-8 text",
		strings.Repeat("x", 70<<10): "line 1, column 1: the statement is 71680 bytes long; at most 65536 are accepted",
	} {
		var e *Error
		if _, err := Parse(source); !errors.As(err, &e) || err.Error() != want {
			t.Errorf("%.20q: %v, want %s", source, err, want)
		}
	}
}

func TestBind(t *testing.T) {
	t.Parallel()
	q, err := Parse("select :s, :n, :b, :null, :missing, :o, :l, :a::text[]")
	if err != nil {
		t.Fatal(err)
	}
	_, values := q.Bind(map[string]json.RawMessage{
		"s": json.RawMessage(`"it's \"x\""`), "n": json.RawMessage(`12345678901234567890.10`), "b": json.RawMessage(`true`),
		"null": json.RawMessage(`null`), "o": json.RawMessage(`{"a": 1.10}`), "l": json.RawMessage(`["a", 2]`),
		"a": json.RawMessage(`["a,b", "q\"\\", null, ["x"], 1.50]`),
	})
	var got []string
	for _, v := range values {
		if v == nil {
			got = append(got, "NULL")
		} else {
			got = append(got, *v)
		}
	}
	want := []string{`it's "x"`, "12345678901234567890.10", "true", "NULL", "NULL", `{"a": 1.10}`, `["a", 2]`, `{"a,b","q\"\\",NULL,{"x"},"1.50"}`}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// FuzzParse: whatever is read, nothing of the source is lost or doubled but the
// names, which become numbers.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"select :a, ':b', $$ :c $$ -- :d\n from x[1:n]", "select E'\\':x' /* :a /* */ */ ;", ":a::uuid[] :a.b.c;"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		q, err := Parse(source)
		if err != nil {
			return
		}
		back, last := strings.Builder{}, 0
		for _, s := range q.spots {
			back.WriteString(q.statement[last:s.statement])
			back.WriteString(q.source[s.source : s.source+s.sourceLen])
			last = s.statement + s.statementLen
		}
		back.WriteString(q.statement[last:])
		plain := func(s string) string { return strings.NewReplacer(";", "", " ", "").Replace(s) }
		if plain(back.String()) != plain(source) {
			t.Errorf("%q became %q", source, back.String())
		}
	})
}
