package dispatch

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a prompt.
const (
	MaxPromptText   = 256 << 10 // bytes of the instructions, and of the input
	MaxPromptFields = 20
	MaxPromptAnswer = 50_000 // characters of one field
)

// PromptText is the name of the one text of a prompt that asks for no fields.
const PromptText = "text"

// promptField is a name that can be a JSON key, and stand in a path such as
// steps.summary.text.
var promptField = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// Validate reports what keeps p from being asked, in a sentence that names the
// key and what is accepted, and that has nothing of the content in it.
func (p Prompt) Validate() error {
	switch {
	case strings.TrimSpace(p.Instructions) == "":
		return errors.New(`the key "instructions" is empty; it has to say what is asked`)
	case !utf8.ValidString(p.Instructions) || !utf8.ValidString(p.Input):
		return errors.New(`the keys "instructions" and "input" have to be valid UTF-8`)
	case len(p.Instructions) > MaxPromptText || len(p.Input) > MaxPromptText:
		return fmt.Errorf(`the keys "instructions" and "input" have at most %d bytes each`, MaxPromptText)
	case len(p.Model) > 200 || !printableASCII(p.Model) || strings.Contains(p.Model, " "):
		return errors.New(`the key "model" has to be the name of a model, such as gpt-5-mini`)
	case len(p.Fields) > MaxPromptFields:
		return fmt.Errorf(`the key "fields" has %d fields; at most %d are accepted`, len(p.Fields), MaxPromptFields)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Fields)) {
		if !promptField.MatchString(name) {
			return errors.New(`the key "fields" has a name in it that is not one; letters, digits and _ are accepted, and no digit in front`)
		}
		if n := p.Fields[name]; n < 0 || n > MaxPromptAnswer {
			return fmt.Errorf(`the key "fields" has a limit that is not a number of characters from 1 to %d, or 0 for none`, MaxPromptAnswer)
		}
	}
	return nil
}
