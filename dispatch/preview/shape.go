// Package preview says what an event would become, for people and for tests:
// the deliveries that a dispatcher plans, with their content and their times, or
// the reasons for which there is nothing to send. It sends and writes nothing.
package preview

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Preview is what an event becomes. Its JSON is an interface of the program, and
// so is that of all types here: keys are added, none is renamed or given another
// type. Recipients are not masked.
type Preview struct {
	Event      Event      `json:"event"`
	Now        time.Time  `json:"now,omitzero"` // the time that the routes saw; zero where none asked for it
	Deliveries []Delivery `json:"deliveries"`   // at least one, in the order of the file

	unused []string
}

// Event is what is previewed.
type Event struct {
	ID        uuid.UUID `json:"id"`
	Type      string    `json:"type"`
	CreatedAt time.Time `json:"created_at"`

	ProcessedAt time.Time `json:"processed_at,omitzero"` // of an event in the database; zero while it is open
	OnRecord    int       `json:"on_record,omitempty"`   // how many deliveries the ledger has of it; those are what is sent, whatever the routes say now
}

// Delivery is one delivery: what is sent, or why nothing is. Where there is
// content, exactly one of the fields named like a channel has it, or Content.
type Delivery struct {
	Route   string           `json:"route"` // "direct" for a direct event, "" where no route matches
	Step    string           `json:"step"`
	Item    json.RawMessage  `json:"item,omitempty"`    // the item of a for_each
	Channel dispatch.Channel `json:"channel,omitempty"` // none where nothing is ever sent

	Recipient    string `json:"recipient,omitempty"`     // none on channels that have none
	RedirectedTo string `json:"redirected_to,omitempty"` // who gets it on this system in the recipient's place
	Held         string `json:"held,omitempty"`          // why this system will not send it

	// State is what the delivery begins as: ready, scheduled, skipped, expired,
	// or dead, which is one that is refused. Reason says why it is one of the last
	// three.
	State  dispatch.State `json:"state"`
	Reason string         `json:"reason,omitempty"`

	At       time.Time `json:"at,omitzero"`       // not before
	Deadline time.Time `json:"deadline,omitzero"` // not after

	After      []string `json:"after,omitempty"`        // the steps that have to be delivered first
	WaitsFor   []string `json:"waits_for,omitempty"`    // those whose answers nobody gave, so that there is no content
	InsteadOf  string   `json:"instead_of,omitempty"`   // the step that has to be known not to have arrived, or else it is not sent
	Supersedes string   `json:"supersedes,omitempty"`   // the key under which it takes the place of older events' deliveries of this step
	Ordering   string   `json:"ordering_key,omitempty"` // it is sent after what earlier events have under this key
	Cancels    string   `json:"cancels,omitempty"`      // the key under which older events' deliveries of the step are withdrawn, and nothing is sent
	Optional   bool     `json:"optional,omitempty"`     // the event is processed without it
	Retry      *Retry   `json:"retry,omitempty"`        // nil: what holds for all

	Copy []Copy `json:"copy,omitempty"` // of the fields that it uses

	SMS     *SMS     `json:"sms,omitempty"`
	Email   *Email   `json:"email,omitempty"`
	Webhook *Webhook `json:"webhook,omitempty"`
	HTTP    *HTTP    `json:"http,omitempty"`
	SQL     *SQL     `json:"sql,omitempty"`
	OpenAI  *Prompt  `json:"openai,omitempty"`

	Content json.RawMessage `json:"content,omitempty"` // of every other channel
}

// Lines is a text, line by line. Joined with "\n" it is the text again.
type Lines []string

func lines(s string) Lines {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// Retry is what a route says about attempts.
type Retry struct {
	Attempts    int                `json:"attempts,omitempty"` // at most, the first included
	First       string             `json:"first,omitempty"`    // the longest wait after the first attempt, such as "10s"
	Longest     string             `json:"longest,omitempty"`  // the longest wait of all
	OnUncertain dispatch.OnUnknown `json:"on_uncertain,omitempty"`
	IfNotFound  dispatch.OnUnknown `json:"if_not_found,omitempty"`
}

// Copy says where the words of a field come from: "ai", or "fallback" with the
// reason.
type Copy struct {
	Field  string `json:"field"`
	Source string `json:"source"`
	Reason string `json:"reason,omitempty"`
}

// SMS is the content of an SMS.
type SMS struct {
	From     string `json:"from,omitempty"` // none: TWILIO_FROM
	Encoding string `json:"encoding"`       // GSM-7 or UCS-2
	Units    int    `json:"units"`          // its length in those of the encoding
	Segments int    `json:"segments"`       // each is billed as a message
	Body     Lines  `json:"body"`
}

// Email is the content of an e-mail.
type Email struct {
	To          []string          `json:"to"`
	Cc          []string          `json:"cc,omitempty"`
	Bcc         []string          `json:"bcc,omitempty"`
	ReplyTo     string            `json:"reply_to,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Subject     string            `json:"subject"`
	Text        Lines             `json:"text,omitempty"`
	FromHTML    Lines             `json:"text_from_html,omitempty"` // the text that goes with HTML alone
	HTML        Lines             `json:"html,omitempty"`
	Attachments []Attachment      `json:"attachments,omitempty"`
	Invite      *Invite           `json:"invite,omitempty"`
}

// Attachment is a file that goes with an e-mail.
type Attachment struct {
	Name  string `json:"name"`
	Type  string `json:"type,omitempty"` // none: by the name's ending
	Bytes int    `json:"bytes"`
	Text  Lines  `json:"text,omitempty"` // none where it is not text
}

// Invite is a calendar invitation.
type Invite struct {
	Method      string    `json:"method"` // REQUEST or CANCEL
	UID         string    `json:"uid"`
	Sequence    int       `json:"sequence"`
	Start       time.Time `json:"start"`
	End         time.Time `json:"end"`
	Summary     string    `json:"summary"`
	Location    string    `json:"location,omitempty"`
	Description Lines     `json:"description,omitempty"`
	URL         string    `json:"url,omitempty"`
	Organizer   Person    `json:"organizer"`
	Attendees   []Person  `json:"attendees"`
}

// Person is somebody with an e-mail address.
type Person struct {
	Name    string `json:"name,omitempty"`
	Address string `json:"address"`
}

// Webhook is the content of a webhook, without what it is signed with.
type Webhook struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
	Body
}

// Body is the body of a request: in JSON where it is an object or a list, else
// in Text.
type Body struct {
	JSON json.RawMessage `json:"json,omitempty"` // with other blanks than it is sent with
	Text Lines           `json:"body,omitempty"`
}

// HTTP is a request to an API, without its credential.
type HTTP struct {
	Method         string            `json:"method"`
	URL            string            `json:"url"`
	Headers        map[string]string `json:"headers,omitempty"`
	Credential     string            `json:"credential,omitempty"` // its name
	Success        []int             `json:"success,omitempty"`    // none: 200 to 299
	Idempotent     bool              `json:"idempotent,omitempty"`
	IdempotencyKey string            `json:"idempotency_key,omitempty"`
	Save           map[string]string `json:"save,omitempty"`
	Body
}

// SQL is a statement with what it is given for $1, $2, …, as text.
type SQL struct {
	Statement Lines     `json:"statement"`
	Args      []*string `json:"args"` // null is null
}

// Prompt is a question to a model.
type Prompt struct {
	Model        string         `json:"model,omitempty"` // none: OPENAI_MODEL
	Instructions Lines          `json:"instructions"`
	Input        Lines          `json:"input,omitempty"`
	Fields       map[string]int `json:"fields,omitempty"` // texts to answer with, and their most characters
}

// JSON is p as indented JSON, with a line break at its end. It is the same for
// the same p.
func (p *Preview) JSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Refused is how many deliveries never can be sent.
func (p *Preview) Refused() int { return p.count(dispatch.Dead) }

func (p *Preview) count(s dispatch.State) int {
	n := 0
	for _, d := range p.Deliveries {
		if d.State == s {
			n++
		}
	}
	return n
}

// Unused are the answers that were given and that no step waited for.
func (p *Preview) Unused() []string { return p.unused }
