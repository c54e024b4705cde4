package dispatch

// SMS is the content of a delivery on ChannelSMS.
type SMS struct {
	To   string `json:"to"`             // E.164, "+" and 7 to 15 digits
	From string `json:"from,omitempty"` // E.164 or sender id; "" means the configured TWILIO_FROM
	Body string `json:"body"`           // 1 to 1,600 characters
}

// Email is the content of a delivery on ChannelEmail. One delivery is one
// message with one envelope; all its recipients are in To, Cc and Bcc.
type Email struct {
	To      []string          `json:"to"` // RFC 5322 addresses, at least one
	Cc      []string          `json:"cc,omitempty"`
	Bcc     []string          `json:"bcc,omitempty"`
	Subject string            `json:"subject"`
	Text    string            `json:"text,omitempty"` // text and html: at least one of them
	HTML    string            `json:"html,omitempty"` // without Text, what it says goes along as text
	ReplyTo string            `json:"reply_to,omitempty"`
	Headers map[string]string `json:"headers,omitempty"` // extra headers; none of those that we set ourselves

	Attachments []Attachment `json:"attachments,omitempty"` // at most MaxAttachments, of MaxAttachmentBytes together
	Invite      *Invite      `json:"invite,omitempty"`      // nil: none
}

// Attachment is a file that goes with an e-mail.
type Attachment struct {
	Name    string `json:"name"`           // the file's name, without a path; at most 255 bytes
	Type    string `json:"type,omitempty"` // media type; "" means by the name's ending; not multipart/…, message/…
	Content []byte `json:"content"`        // base64 in JSON
}

// Invite is a calendar invitation (RFC 5545) that goes with an e-mail, as a part
// that mail programs show and as a file.
type Invite struct {
	Method   string `json:"method"`   // REQUEST or CANCEL, as METHOD in Calendar says
	Calendar string `json:"calendar"` // the whole VCALENDAR, folded, with CRLF; at most MaxInviteBytes
}

// Webhook is the content of a delivery on ChannelWebhook: a POST, signed as
// Standard Webhooks asks.
type Webhook struct {
	URL     string            `json:"url"`
	Body    string            `json:"body"` // the exact bytes of the request body
	Headers map[string]string `json:"headers,omitempty"`
}

// HTTP is the content of a delivery on ChannelHTTP: a plain request, as an API
// asks for it.
type HTTP struct {
	Method  string            `json:"method"` // GET, POST, PUT, PATCH or DELETE
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"` // the exact bytes of the request body

	// Credential is the name of a credential that is added when it is sent, so
	// that no secret is in the ledger. "" means none.
	Credential string `json:"credential,omitempty"`

	Success        []int             `json:"success,omitempty"`         // status codes that mean it was taken; none means 200 to 299
	Idempotent     bool              `json:"idempotent,omitempty"`      // a second request does no harm
	IdempotencyKey string            `json:"idempotency_key,omitempty"` // the header that gets the delivery's id; "" means none
	Save           map[string]string `json:"save,omitempty"`            // name -> path into the JSON answer, such as "data.id"
}

// SQL is the content of a delivery on ChannelSQL: one statement, run in the
// transaction that records the delivery.
type SQL struct {
	Statement string    `json:"statement"` // with $1, $2, …
	Args      []*string `json:"args"`      // as text, which the database reads by the parameter's type; nil is null
}

// Prompt is the content of a delivery on ChannelOpenAI: a question whose answer
// is the point.
type Prompt struct {
	Model        string         `json:"model,omitempty"` // "" means the configured one
	Instructions string         `json:"instructions"`
	Input        string         `json:"input"`
	Fields       map[string]int `json:"fields,omitempty"` // names of the texts to answer with, and their most characters; none means one, "text"
}
