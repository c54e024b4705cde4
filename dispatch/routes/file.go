package routes

import "time"

// The types of this file are the routes file: load reads it into them, and the
// JSON Schema is made from them. Their tags:
//
//	key   the key in the file
//	need  "yes" where the key has to be there
//	enum  what a text may be, separated by |
//	one   the group of keys of which the mapping has exactly one
//	kind  what a text is: "template", "html", "expression", "time", "sql", "name",
//	      "path", "variable"; "" where it is taken as it is
//	names what the keys of an ordered mapping are: "name", or "identifier", which
//	      templates have them by; "" where they are taken as they are
//	min   the least that a number may be; 0 where it is missing
//	max   the most
//	doc   what it is for, in one sentence

type file struct {
	Version     int                 `key:"version" need:"yes" enum:"1" doc:"The version of the format: 1."`
	ExposeEnv   []text              `key:"expose_env" kind:"variable" doc:"Names of environment variables that templates and expressions may read with env."`
	Defaults    defaults            `key:"defaults" doc:"What holds where a step or function says nothing."`
	Lookups     lookups             `key:"lookups" doc:"How lookups and sql steps run."`
	Credentials ordered[credential] `key:"credentials" names:"name" doc:"What http steps carry to show who sends them, by name. It has names of environment variables, never values."`
	Let         ordered[text]       `key:"let" names:"identifier" kind:"template" doc:"Texts that several routes use, by name, made of payload, event and env."`
	Routes      []route             `key:"routes" need:"yes" doc:"What events become."`
}

type defaults struct {
	Timezone text  `key:"timezone" doc:"The time zone of datetime, date and time, such as America/New_York; UTC where it is missing."`
	Region   text  `key:"region" doc:"The country of phone numbers without a country code, such as US."`
	Retry    retry `key:"retry" doc:"How often and how soon a step is tried again."`
}

type lookups struct {
	Role    text `key:"role" doc:"The database role that lookups run as; that of the connection where it is missing."`
	Timeout span `key:"timeout" doc:"How long one lookup may take; 2s where it is missing."`
	SQLRole text `key:"sql_role" doc:"The database role that sql steps run as; that of the connection where it is missing."`
}

type credential struct {
	Node *node

	Bearer text          `key:"bearer" kind:"variable" doc:"The variable that has a bearer token."`
	Basic  *basic        `key:"basic" doc:"User and password."`
	OAuth2 *oauth2       `key:"oauth2" doc:"An access token that is fetched with client credentials, or with a refresh token."`
	Query  ordered[text] `key:"query" kind:"variable" doc:"Parameters that the URL gets: names, and the variables that have their values."`
	Header ordered[text] `key:"header" kind:"variable" doc:"Headers that the request gets: names, and the variables that have their values."`
	Hosts  []text        `key:"hosts" doc:"The only hosts that get it, with or without a port."`

	Optional bool `key:"optional" doc:"true: a variable that is not set is no mistake; requests that carry it fail then, so that when has to keep them back."`
}

type basic struct {
	User     text `key:"user" need:"yes" kind:"variable" doc:"The variable that has the user."`
	Password text `key:"password" need:"yes" kind:"variable" doc:"The variable that has the password."`
}

type oauth2 struct {
	TokenURL     text          `key:"token_url" need:"yes" doc:"The address of the token endpoint."`
	ClientID     text          `key:"client_id" need:"yes" kind:"variable" doc:"The variable that has the client's id."`
	ClientSecret text          `key:"client_secret" kind:"variable" doc:"The variable that has the client's secret."`
	RefreshToken text          `key:"refresh_token" kind:"variable" doc:"The variable that has a refresh token; client credentials where it is missing."`
	Scopes       []text        `key:"scopes" doc:"The scopes that are asked for."`
	Params       ordered[text] `key:"params" doc:"More parameters of the token request, such as audience."`
	Style        text          `key:"style" enum:"header|body" doc:"How the client is named; it is found out where this is missing."`
}

type route struct {
	Node *node

	Name     text            `key:"name" need:"yes" kind:"name" doc:"The route's name, on record with each delivery."`
	Event    []text          `key:"event" need:"yes" doc:"The event types that it is for: exact, or a beginning such as quote.*"`
	Lookup   ordered[lookup] `key:"lookup" names:"identifier" doc:"Rows of the database, by the name that templates and expressions have for them."`
	When     text            `key:"when" kind:"expression" doc:"A condition; where it is false the route's steps are skipped."`
	Let      ordered[text]   `key:"let" names:"identifier" kind:"template" doc:"Texts that several steps use, by name."`
	Ordering text            `key:"ordering_key" kind:"template" doc:"A key, such as customer/{{.payload.customer_id}}: of events with the same key, in whichever route, one after the other is delivered, in the order of their inserts."`
	Copy     *words          `key:"copy" doc:"Texts that a model writes."`
	Deliver  []step          `key:"deliver" doc:"The steps: what is delivered."`
	Cancels  []cancel        `key:"cancels" doc:"Steps of older events that are canceled, as far as they have not left."`
}

type lookup struct {
	Node *node

	SQL  text `key:"sql" need:"yes" kind:"sql" doc:"One statement; :name is payload.name, bound and never spliced."`
	Rows text `key:"rows" enum:"one|optional|many" doc:"one (the default): a row that is missing skips the route's steps; optional: it is null; many: a list."`
}

// words is copy, which Go has a function of that name for.
type words struct {
	Node *node

	Model        text           `key:"model" doc:"The model; OPENAI_MODEL where it is missing."`
	Instructions text           `key:"instructions" need:"yes" doc:"How to write: tone, language, what to mention."`
	Facts        ordered[text]  `key:"facts" kind:"template" doc:"All that the model is told, by name."`
	Fields       ordered[field] `key:"fields" need:"yes" names:"identifier" doc:"The texts to write, by the name that templates have for them under copy."`
	Budget       span           `key:"budget" doc:"How long the words may take, with all tries; 5s where it is missing."`
}

type field struct {
	Node *node

	Template    text   `key:"template" need:"yes" kind:"template" doc:"What is used where the model's words are not."`
	Describe    text   `key:"describe" doc:"What the text is for, for the model."`
	MaxChars    int    `key:"max_chars" min:"1" doc:"The most characters."`
	MaxSegments int    `key:"max_segments" min:"1" doc:"The most segments as an SMS."`
	MustContain []text `key:"must_contain" kind:"template" doc:"Texts that have to stand in it, character for character."`
	MustNot     []text `key:"must_not" doc:"Words that must not stand in it, in whatever case."`
	SingleLine  bool   `key:"single_line" doc:"No line break in it; that of a subject never has one."`
}

type step struct {
	Node *node

	Name        text   `key:"name" need:"yes" kind:"name" doc:"The step's name within the route, on record with each delivery."`
	When        text   `key:"when" kind:"expression" doc:"A condition; where it is false the step is skipped."`
	ForEach     text   `key:"for_each" kind:"expression" doc:"A list; there is one delivery for each different item, which templates see as item."`
	At          text   `key:"at" kind:"time" doc:"Not before: now, or a time of a row or the payload with + or - durations, such as visit.start_at - 24h."`
	Deadline    span   `key:"deadline" doc:"How long after its time it may still be sent; 1h where at is given and this is missing."`
	Retry       retry  `key:"retry" doc:"How often and how soon it is tried again."`
	OnUncertain text   `key:"on_uncertain" enum:"resend|hold|reconcile|never_twice" doc:"What follows when nobody can tell whether it arrived. resend: it is sent again under the same id. hold: a person decides. reconcile: the provider is asked, of sms alone. never_twice: it is dead. Where it is missing, what OUTBOX_ON_UNCERTAIN_SMS, _EMAIL, _WEBHOOK and _HTTP say."`
	IfNotFound  text   `key:"if_not_found" enum:"hold|resend" doc:"What follows where the provider was asked and does not have it: hold where it is missing."`
	Required    *bool  `key:"required" doc:"false: the event counts as processed without it."`
	Supersedes  text   `key:"supersedes" kind:"expression" doc:"A business key, such as an appointment's id: a newer event cancels what is left of older deliveries of this step and key."`
	After       []text `key:"after" kind:"name" doc:"Steps of this route that have to be delivered first; their answers are under steps."`

	IfUndelivered text `key:"if_undelivered" kind:"name" doc:"Of an sms: the step of this route that is sent where the SMS is known not to have arrived, and for nothing else."`

	SMS     *sms     `key:"sms" one:"channel" doc:"An SMS."`
	Email   *email   `key:"email" one:"channel" doc:"An e-mail."`
	Webhook *webhook `key:"webhook" one:"channel" doc:"A signed webhook (Standard Webhooks)."`
	HTTP    *request `key:"http" one:"channel" doc:"A request to an API."`
	SQL     text     `key:"sql" one:"channel" kind:"sql" doc:"A statement that runs in the transaction that records the delivery; :name is payload.name, bound and never spliced."`
	OpenAI  *prompt  `key:"openai" one:"channel" doc:"A question to a model, whose answer later steps use."`
	Log     *logLine `key:"log" one:"channel" doc:"A line in the listener's own log."`
}

type retry struct {
	Attempts int  `key:"attempts" min:"1" doc:"At most this many attempts, the first included."`
	First    span `key:"first" doc:"The longest wait after the first attempt; it triples with each."`
	Longest  span `key:"longest" doc:"The longest wait of all."`
}

type sms struct {
	Node *node

	To   text `key:"to" need:"yes" kind:"template" doc:"The number, as E.164; where it is empty the step is skipped."`
	From text `key:"from" kind:"template" doc:"The sender; TWILIO_FROM where it is missing."`
	Body text `key:"body" need:"yes" kind:"template" doc:"The text."`
}

type email struct {
	Node *node

	To          []text        `key:"to" need:"yes" kind:"template" doc:"The addresses; where all are empty the step is skipped."`
	Cc          []text        `key:"cc" kind:"template" doc:"More addresses, which all see."`
	Bcc         []text        `key:"bcc" kind:"template" doc:"More addresses, which nobody sees."`
	ReplyTo     text          `key:"reply_to" kind:"template" doc:"The address for answers."`
	Subject     text          `key:"subject" need:"yes" kind:"template" doc:"The subject, one line."`
	Text        text          `key:"text" kind:"template" doc:"The text; made from html where it is missing."`
	HTML        text          `key:"html" kind:"html" doc:"The HTML; values are escaped by where they stand."`
	Headers     ordered[text] `key:"headers" kind:"template" doc:"More headers."`
	Attachments []attachment  `key:"attachments" doc:"Files that go with it."`
	Invite      *invite       `key:"invite" doc:"A calendar invitation that goes with it; none where its start is null."`
}

type attachment struct {
	Name text `key:"name" need:"yes" kind:"template" doc:"The file's name."`
	Type text `key:"type" doc:"The media type; by the name's ending where it is missing."`
	Text text `key:"text" need:"yes" kind:"template" doc:"What is in it."`
}

type invite struct {
	Node *node

	When        text     `key:"when" kind:"expression" doc:"A condition; where it is false the e-mail goes without."`
	Method      text     `key:"method" enum:"REQUEST|CANCEL" doc:"REQUEST (the default) invites and updates, CANCEL takes it back."`
	UID         text     `key:"uid" need:"yes" kind:"template" doc:"The same for all that is sent about it, unique in the world: 4711@example.com."`
	Sequence    text     `key:"sequence" kind:"template" doc:"A whole number that grows with each change; 0 where it is missing."`
	Start       text     `key:"start" need:"yes" kind:"time" doc:"When it begins."`
	End         text     `key:"end" kind:"time" doc:"When it ends; this or duration has to be there."`
	Duration    text     `key:"duration" kind:"template" doc:"How long it takes, such as 90m; this or end has to be there."`
	Summary     text     `key:"summary" need:"yes" kind:"template" doc:"The title."`
	Location    text     `key:"location" kind:"template" doc:"Where."`
	Description text     `key:"description" kind:"template" doc:"What is to be known about it."`
	URL         text     `key:"url" kind:"template" doc:"A page about it."`
	Organizer   person   `key:"organizer" need:"yes" doc:"Who invites."`
	Attendees   []person `key:"attendees" doc:"Who is invited; the e-mail's to where it is missing."`
}

type person struct {
	Name    text `key:"name" kind:"template" doc:"The name."`
	Address text `key:"address" need:"yes" kind:"template" doc:"The e-mail address."`
}

type webhook struct {
	Node *node

	URL     text          `key:"url" need:"yes" kind:"template" doc:"Where it goes; where it is empty the step is skipped."`
	JSON    *tree         `key:"json" kind:"template" doc:"The body. Each text in it is a template; one that is a single {{json …}} becomes that value itself."`
	Body    text          `key:"body" kind:"template" doc:"The body as a text. Without json and body it is {type, timestamp, data}, data being the payload."`
	Headers ordered[text] `key:"headers" kind:"template" doc:"More headers."`
}

type request struct {
	Node *node

	Method         text          `key:"method" enum:"GET|POST|PUT|PATCH|DELETE" doc:"The method; POST where there is a body, else GET."`
	URL            text          `key:"url" need:"yes" kind:"template" doc:"Where it goes; where it is empty the step is skipped."`
	Headers        ordered[text] `key:"headers" kind:"template" doc:"More headers."`
	JSON           *tree         `key:"json" kind:"template" doc:"The body. Each text in it is a template; one that is a single {{json …}} becomes that value itself."`
	Form           ordered[text] `key:"form" kind:"template" doc:"The body as an HTML form sends it; what is empty is left out."`
	Body           text          `key:"body" kind:"template" doc:"The body as a text."`
	Credential     text          `key:"credential" doc:"The name of a credential."`
	Success        []int         `key:"success" min:"100" max:"599" doc:"The status codes that mean success; 200 to 299 where it is missing."`
	Idempotent     bool          `key:"idempotent" doc:"A second request does no harm."`
	IdempotencyKey text          `key:"idempotency_key" doc:"The header that gets the delivery's id, such as Idempotency-Key."`
	Save           ordered[text] `key:"save" names:"identifier" kind:"path" doc:"Fields of the JSON answer that later steps may use: names, and paths such as data.id."`
}

type prompt struct {
	Node *node

	Model        text         `key:"model" doc:"The model; OPENAI_MODEL where it is missing."`
	Instructions text         `key:"instructions" need:"yes" kind:"template" doc:"What is asked."`
	Input        text         `key:"input" kind:"template" doc:"What it is asked about."`
	Fields       ordered[int] `key:"fields" names:"identifier" min:"1" doc:"The texts to answer with, and their most characters; one named text where it is missing."`
}

type logLine struct {
	Node *node

	Text text `key:"text" need:"yes" kind:"template" doc:"What it says."`
}

type cancel struct {
	Node *node

	Steps []text `key:"steps" need:"yes" kind:"name" doc:"The names of the steps, in whatever route."`
	Key   text   `key:"key" need:"yes" kind:"expression" doc:"The business key that the steps supersede by."`
}

// text is a string of the file. The zero value is one that is not there.
type text struct {
	value string
	node  *node // where it stands; nil where it is not there
}

// span is a duration of the file, such as 90s, 2h or 1d. The zero value is one
// that is not there.
type span struct {
	of   time.Duration
	node *node
}

// ordered is a mapping of the file in the file's order.
type ordered[T any] []entry[T]

type entry[T any] struct {
	name  text
	value T
}

// tree is a value of any shape, for JSON.
type tree struct{ node *node }
