package dispatch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// directEvents are the event types that need no routes: the payload is the
// message. Each becomes exactly one Message, of route "direct" and a step
// named like its channel. A payload that can never be sent becomes
// Message.Refused: a sentence that names the key and what is accepted, and
// repeats nothing of the payload.
//
//	sms.send      {to, body, from?}
//	email.send    {to, cc?, bcc?, subject, text?, html?, reply_to?, headers?, attachments?}
//	webhook.send  {url, body, headers?}
//	log.send      any payload
//	discard.send  any payload
//
// An email's to, cc and bcc are an address or an array of addresses; text and
// html may be given both, and one of them has to be. Attachments are an array
// of objects {name, type?, content}: the name of a file without a path, its
// media type, which goes by the name's ending where it is missing, and its
// bytes in base64, with or without line ends.
//
// A key that is null counts as missing. Keys that are not listed are ignored,
// so that an app may keep notes of its own in a payload; where a listed one is
// missing, a key that looks like a misspelling of it is pointed out.
//
// A webhook's body that is a JSON string is sent as that text. An object,
// array, number or boolean is sent as its JSON text, exactly as it stands in
// the payload: no number loses a digit.
var directEvents = map[string]PlanFunc{
	"sms.send":     directPlan(ChannelSMS, planSMS),
	"email.send":   directPlan(ChannelEmail, planEmail),
	"webhook.send": directPlan(ChannelWebhook, planWebhook),
	"log.send":     directAny(ChannelLog),
	"discard.send": directAny(ChannelDiscard),
}

// directPlan turns a function that reads one payload into a PlanFunc.
func directPlan(ch Channel, read func(payload json.RawMessage) (recipient string, content any, err error)) PlanFunc {
	return func(_ context.Context, ev Event) []Message {
		m := Message{Route: "direct", Step: string(ch), Channel: ch}
		recipient, content, err := read(ev.Payload)
		if err == nil {
			m.Content, err = encode(content)
		}
		if err != nil {
			m.Refused = ev.Type + ": " + err.Error()
			return []Message{m}
		}
		m.Recipient = recipient
		m.made = made{content, m.Content}
		return []Message{m}
	}
}

// directAny is the PlanFunc of events whose payload may be anything.
func directAny(ch Channel) PlanFunc {
	return func(_ context.Context, ev Event) []Message {
		return []Message{planAny(ev, Message{Route: "direct", Step: string(ch), Channel: ch})}
	}
}

// encode returns content as JSON, the same bytes for the same content: struct
// fields stand in their order, map keys are sorted. A json.RawMessage stays as
// it is.
func encode(content any) (json.RawMessage, error) {
	if raw, ok := content.(json.RawMessage); ok {
		return raw, nil
	}
	return json.Marshal(content)
}

func planSMS(payload json.RawMessage) (string, any, error) {
	o, err := readObject(payload, smsKeys)
	if err != nil {
		return "", nil, err
	}
	var m SMS
	err = o.read(
		o.text("to", &m.To, required),
		o.text("body", &m.Body, required),
		o.text("from", &m.From, optional),
	)
	if err == nil {
		err = m.Validate()
	}
	return m.To, m, err
}

func planEmail(payload json.RawMessage) (string, any, error) {
	o, err := readObject(payload, emailKeys)
	if err != nil {
		return "", nil, err
	}
	var m Email
	err = o.read(
		o.texts("to", &m.To, required),
		o.texts("cc", &m.Cc, optional),
		o.texts("bcc", &m.Bcc, optional),
		o.text("subject", &m.Subject, required),
		o.text("text", &m.Text, optional),
		o.text("html", &m.HTML, optional),
		o.text("reply_to", &m.ReplyTo, optional),
		o.headers("headers", &m.Headers),
		o.attachments("attachments", &m.Attachments),
	)
	if err == nil && m.Text == "" && m.HTML == "" {
		err = o.missing("text")
	}
	if err == nil {
		err = m.Validate()
	}
	if err != nil {
		return "", nil, err
	}
	return Addr(m.To[0]), m, nil
}

func planWebhook(payload json.RawMessage) (string, any, error) {
	o, err := readObject(payload, webhookKeys)
	if err != nil {
		return "", nil, err
	}
	var m Webhook
	err = o.read(
		o.text("url", &m.URL, required),
		o.value("body", &m.Body),
		o.headers("headers", &m.Headers),
	)
	if err == nil {
		err = m.Validate()
	}
	return m.URL, m, err
}

// planAny returns m with the payload of ev as it is.
func planAny(ev Event, m Message) Message {
	payload := ev.Payload
	if len(payload) == 0 {
		payload = json.RawMessage("null")
	}
	if !ev.Printed || len(payload) > shallow || !utf8.Valid(payload) {
		if err := readable(payload); err != nil {
			m.Refused = ev.Type + ": " + err.Error()
			return m
		}
	}
	m.Content, m.made = payload, made{content: payload}
	return m
}

// shallow is how many bytes of JSON cannot be nested deeper than encoding/json reads:
// 10,000 levels (maxNestingDepth in its scanner.go), with two brackets each.
const shallow = 2 * 10_000

// readable reports what keeps payload from being read at all. Postgres stores
// JSON that is nested deeper than encoding/json is ready to read.
func readable(payload json.RawMessage) error {
	if !utf8.Valid(payload) {
		return errors.New("the payload is not valid UTF-8")
	}
	if json.Valid(payload) {
		return nil
	}
	err := json.Unmarshal(payload, new(json.RawMessage))
	switch {
	case err != nil && strings.Contains(err.Error(), "max depth"):
		return errors.New("the payload is nested too deep; at most 10,000 levels are accepted")
	default:
		return errors.New("the payload cannot be read as JSON")
	}
}

// object is a payload whose keys are known.
type object struct {
	values map[string]json.RawMessage
	keys   keys
}

// keys are the accepted keys of a payload, and what people write instead.
type keys struct {
	accepted string            // for people
	aliases  map[string]string // in lower case, without separators
}

var (
	smsKeys = keys{"to, body and optionally from", map[string]string{
		"phone": "to", "phonenumber": "to", "number": "to", "recipient": "to", "mobile": "to",
		"message": "body", "msg": "body", "text": "body", "content": "body",
	}}
	emailKeys = keys{"to, subject, text or html, and optionally cc, bcc, reply_to, headers and attachments", map[string]string{
		"email": "to", "recipient": "to", "recipients": "to", "address": "to", "toaddress": "to",
		"title": "subject", "topic": "subject",
		"body": "text", "message": "text", "content": "text", "plain": "text", "plaintext": "text",
	}}
	webhookKeys = keys{"url, body and optionally headers", map[string]string{
		"uri": "url", "endpoint": "url", "to": "url", "target": "url", "href": "url", "address": "url",
		"data": "body", "payload": "body", "json": "body", "content": "body", "message": "body",
	}}
)

func readObject(payload json.RawMessage, k keys) (*object, error) {
	if kindOf(payload) == "an object" && utf8.Valid(payload) {
		if o, err := members(payload, k); err == nil {
			return o, nil
		}
	}
	if err := readable(payload); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("the payload is %s; it has to be an object with the keys %s", kindOf(payload), k.accepted)
}

// members reads an object, of which nulls are no part.
func members(raw json.RawMessage, k keys) (*object, error) {
	o := &object{keys: k}
	if err := json.Unmarshal(raw, &o.values); err != nil {
		return nil, errors.New("the payload cannot be read as JSON")
	}
	for key, v := range o.values {
		if kindOf(v) == "null" {
			delete(o.values, key)
		}
	}
	return o, nil
}

// kindOf names the kind of a JSON value, with its article.
func kindOf(raw json.RawMessage) string {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return "empty"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

const (
	required = true
	optional = false
)

// read returns the first error among those of its arguments.
func (o *object) read(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// text reads the string under key.
func (o *object) text(key string, to *string, need bool) error {
	raw, ok := o.values[key]
	if !ok {
		if need {
			return o.missing(key)
		}
		return nil
	}
	if kindOf(raw) != "a string" {
		return fmt.Errorf("the key %q is %s; it has to be a string", key, kindOf(raw))
	}
	return json.Unmarshal(raw, to)
}

// texts reads the string or the array of strings under key.
func (o *object) texts(key string, to *[]string, need bool) error {
	raw, ok := o.values[key]
	if !ok {
		if need {
			return o.missing(key)
		}
		return nil
	}
	var elems []json.RawMessage
	switch kindOf(raw) {
	case "a string":
		elems = []json.RawMessage{raw}
	case "an array":
		if err := json.Unmarshal(raw, &elems); err != nil {
			return err
		}
	default:
		return fmt.Errorf("the key %q is %s; it has to be a string or an array of strings", key, kindOf(raw))
	}
	for i, e := range elems {
		if kindOf(e) != "a string" {
			return fmt.Errorf("the key %q has %s at position %d; it has to be an array of strings", key, kindOf(e), i+1)
		}
		var s string
		if err := json.Unmarshal(e, &s); err != nil {
			return err
		}
		*to = append(*to, s)
	}
	return nil
}

// headers reads the object of strings under key, where there is one.
func (o *object) headers(key string, to *map[string]string) error {
	raw, ok := o.values[key]
	if !ok {
		return nil
	}
	if kindOf(raw) != "an object" {
		return fmt.Errorf("the key %q is %s; it has to be an object of header names and values", key, kindOf(raw))
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil {
		return err
	}
	headers := make(map[string]string, len(values))
	for name, v := range values {
		if kindOf(v) != "a string" {
			return fmt.Errorf("the key %q has a value that is not a string; every header value has to be one", key)
		}
		var s string
		if err := json.Unmarshal(v, &s); err != nil {
			return err
		}
		headers[name] = s
	}
	if len(headers) > 0 {
		*to = headers
	}
	return nil
}

// value reads any JSON value under key: a string's text, or the JSON text of
// anything else.
func (o *object) value(key string, to *string) error {
	raw, ok := o.values[key]
	if !ok {
		return o.missing(key)
	}
	if kindOf(raw) == "a string" {
		return json.Unmarshal(raw, to)
	}
	*to = string(raw)
	return nil
}

// missing says that key is not there, and which key may have been meant for
// it. Only a key that is nearly an accepted one, or a usual word for it, is
// repeated, so that nothing of the payload gets out.
func (o *object) missing(key string) error {
	hint := ""
	for present := range o.values {
		if o.meant(present, key) && (hint == "" || present < hint) {
			hint = present
		}
	}
	if hint != "" {
		hint = fmt.Sprintf(" (is %q meant to be it?)", hint)
	}
	what := fmt.Sprintf("the key %q is", key)
	if key == "text" {
		what = `the keys "text" and "html" are both`
	}
	return fmt.Errorf("%s missing%s; accepted are %s", what, hint, o.keys.accepted)
}

// meant reports whether somebody who wrote present may have meant key.
func (o *object) meant(present, key string) bool {
	if len(present) > 20 || present == key {
		return false
	}
	p := plain(present)
	if p == plain(key) || o.keys.aliases[p] == key {
		return true
	}
	return len(key) >= 4 && strings.Trim(p, "abcdefghijklmnopqrstuvwxyz") == "" && oneApart(p, plain(key))
}

// plain returns s in lower case without separators.
func plain(s string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "", ".", "").Replace(strings.ToLower(s))
}

// oneApart reports whether a becomes b by one letter more, less, other, or
// swapped with its neighbor.
func oneApart(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) < len(b) {
		return a[i:] == b[i+1:]
	}
	if i == len(a) || a[i+1:] == b[i+1:] {
		return true
	}
	return i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}
