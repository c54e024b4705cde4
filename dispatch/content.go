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
	HTML    string            `json:"html,omitempty"`
	ReplyTo string            `json:"reply_to,omitempty"`
	Headers map[string]string `json:"headers,omitempty"` // extra headers; none of those that we set ourselves
}

// Webhook is the content of a delivery on ChannelWebhook: a POST, signed as
// Standard Webhooks asks.
type Webhook struct {
	URL     string            `json:"url"`
	Body    string            `json:"body"` // the exact bytes of the request body
	Headers map[string]string `json:"headers,omitempty"`
}
