package dispatch

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSMSBody is the longest text of one SMS, in characters.
const MaxSMSBody = 1600

var (
	e164      = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
	shortCode = regexp.MustCompile(`^[0-9]{3,8}$`)
	senderID  = regexp.MustCompile(`^[A-Za-z0-9 &+_-]{1,11}$`)
	letter    = regexp.MustCompile(`[A-Za-z]`)
)

// Validate reports what keeps m from being sent, in a sentence that names the
// key and what is accepted, and that has nothing of the content in it.
func (m SMS) Validate() error {
	switch {
	case m.To == "":
		return errors.New(`the key "to" is empty; it has to be a phone number such as +15550100123`)
	case !e164.MatchString(m.To):
		return errors.New(`the key "to" has to be a phone number in E.164 form: "+", country code and number, ` +
			`7 to 15 digits without spaces, such as +15550100123`)
	case m.From != "" && !validSMSSender(m.From):
		return errors.New(`the key "from" has to be a phone number such as +15550100123, a short code of 3 to 8 digits, ` +
			`or a sender id of up to 11 letters, digits and spaces`)
	case strings.TrimSpace(m.Body) == "":
		return errors.New(`the key "body" is empty; it has to be the text to send`)
	case !utf8.ValidString(m.Body):
		return errors.New(`the key "body" is not valid UTF-8`)
	case strings.IndexFunc(m.Body, badInText) >= 0:
		return errors.New(`the key "body" has a control character in it; only line breaks and tabs are accepted`)
	}
	if n := utf8.RuneCountInString(m.Body); n > MaxSMSBody {
		return fmt.Errorf(`the key "body" is %d characters long; at most %d are accepted`, n, MaxSMSBody)
	}
	return nil
}

func validSMSSender(s string) bool {
	return e164.MatchString(s) || shortCode.MatchString(s) ||
		senderID.MatchString(s) && letter.MatchString(s) && strings.TrimSpace(s) == s
}

// badInText reports whether r has no place in a text that people read.
func badInText(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t'
}
