package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"
)

// refusal is the answer to a request that means nothing, with what to mend.
type refusal struct {
	Error  string `json:"error"`
	Reason string `json:"reason"`
}

// invalid answers a request that means nothing, and says why.
func invalid(w http.ResponseWriter, why string) {
	answer(w, http.StatusBadRequest, refusal{"invalid_request", why})
}

// readJSON reads a body that has to be one JSON object with no keys but those of
// into. It reports whether it is; where not, the request was answered.
func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		answer(w, http.StatusUnsupportedMediaType, refusal{"not_json", "send a JSON object, with the header content-type: application/json"})
		return false
	}
	text, ok := readBody(w, r)
	if !ok {
		return false
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		invalid(w, misread(err, into))
		return false
	}
	if bytes.TrimLeft(text, " \t\r\n")[0] != '{' { // null, which is no error to whoever decodes it
		invalid(w, "the body has to be a JSON object, not null")
		return false
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		invalid(w, "there is something after the JSON object")
		return false
	}
	return true
}

// unknownField is how encoding/json begins the error that DisallowUnknownFields asks
// for, which has no type of its own.
const unknownField = "json: unknown field "

// misread says what is wrong with a body that cannot be read into something.
func misread(err error, into any) string {
	if name, found := strings.CutPrefix(err.Error(), unknownField); found {
		return fmt.Sprintf("there is no key %s; there are %s", name, strings.Join(keys(reflect.TypeOf(into)), ", "))
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if e.Field == "" {
			return "the body has to be a JSON object, not " + of(e.Value)
		}
		name := e.Field[strings.LastIndex(e.Field, ".")+1:] // behind the names of embedded structs
		return fmt.Sprintf("the key %q cannot be %s", name, of(e.Value))
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("the body is not JSON: at byte %d: %v", e.Offset, e)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the body is not JSON: it ends before the object does"
	}
	return "the body cannot be read: " + err.Error()
}

// of is a kind of JSON value with its article.
func of(kind string) string {
	word, more, _ := strings.Cut(kind, " ") // number 1.5
	article := "a "
	switch word {
	case "array", "object":
		article = "an "
	case "bool":
		word = "true or false"
		article = ""
	}
	return strings.TrimSpace(article + word + " " + more)
}

// keys are the names of an object, those of embedded ones too.
func keys(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var out []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			out = append(out, keys(f.Type)...)
		case f.IsExported() && name != "" && name != "-":
			out = append(out, name)
		}
	}
	return out
}
