package standin

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf16"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// TwilioReply is what a scripted Twilio does with one request to create a
// message. The zero value takes it and answers 201 as the real one does.
type TwilioReply struct {
	Status int // 0 means 201
	Header http.Header
	Body   string // "" means the message for 201, and an error by Code for anything else
	Code   int    // Twilio's own error code, where Body is ""

	Until     <-chan struct{} // answer only when it is closed
	Hang      bool            // take it, then say nothing until the client goes away
	CutBefore bool            // close the connection; nothing is taken
	CutAfter  bool            // take it, then close the connection
	CutAt     int             // with CutAfter, how many bytes of the answer leave before that
	Taken     bool            // take it although Status is none of the 2xx
}

// TwilioList is what a scripted Twilio does with one request to list messages. The
// zero value lists them as the real one does.
type TwilioList struct {
	After    time.Duration            // how old messages are before they are listed
	PageSize int                      // at most so many on a page, whatever is asked for; 0 means no limit
	Rewrite  func(body string) string // what becomes of the words; nil means nothing
	Status   int                      // 0 means 200; anything else is an error
	Code     int                      // Twilio's own error code, with Status
	Body     string                   // in place of all of this; "" means the list, or the error
	Cut      bool                     // close the connection without an answer
}

func (r TwilioReply) takes() bool {
	switch {
	case r.CutBefore:
		return false
	case r.Hang, r.CutAfter, r.Taken:
		return true
	}
	return r.Status >= 200 && r.Status <= 299
}

// Twilio is Twilio's Messages resource on a loopback address: it creates
// messages and lists them, for one account, which it shows too.
type Twilio struct {
	sid, token string
	server     *http.Server
	listener   net.Listener
	served     chan struct{}

	// For the callbacks that it makes.
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	client *http.Client
	calls  sync.WaitGroup

	mu       sync.Mutex
	script   func(n int, r *http.Request) TwilioReply
	callback func(Received)
	messages []twilioMessage // oldest first
	received []Received
	requests int
	refused  int
	conns    int
	hidden   bool
	lists    func(n int, r *http.Request) TwilioList
	listed   int
	fates    func(n int, m Received) []TwilioCallback
	reported []TwilioReported
}

// twilioMessage is a message as the API shows it.
type twilioMessage struct {
	AccountSID      string  `json:"account_sid"`
	APIVersion      string  `json:"api_version"`
	Body            string  `json:"body"`
	DateCreated     string  `json:"date_created"`
	DateSent        *string `json:"date_sent"` // null while it is queued
	DateUpdated     string  `json:"date_updated"`
	Direction       string  `json:"direction"`
	ErrorCode       *int    `json:"error_code"`
	ErrorMessage    *string `json:"error_message"`
	From            string  `json:"from"`
	MessagingSID    *string `json:"messaging_service_sid"`
	NumMedia        string  `json:"num_media"`
	NumSegments     string  `json:"num_segments"`
	Price           *string `json:"price"`
	PriceUnit       *string `json:"price_unit"`
	SID             string  `json:"sid"`
	taken           time.Time
	Status          string            `json:"status"`
	SubresourceURIs map[string]string `json:"subresource_uris"`
	To              string            `json:"to"`
	URI             string            `json:"uri"`
}

// NewTwilio starts a Twilio that knows one account. Close it after use.
func NewTwilio(accountSID, authToken string) (*Twilio, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &Twilio{sid: accountSID, token: authToken, listener: l, served: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	path := "/2010-04-01/Accounts/{account}/Messages.json"
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+path, t.create)
	mux.HandleFunc("GET "+path, t.list)
	mux.HandleFunc("GET /2010-04-01/Accounts/{account}", t.account)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusNotFound, twilioError(http.StatusNotFound, 20404, "The requested resource was not found"))
	})
	t.server = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				t.mu.Lock()
				defer t.mu.Unlock()
				t.conns++
			}
		},
	}
	go func() {
		defer close(t.served)
		_ = t.server.Serve(l)
	}()
	return t, nil
}

// URL is what stands in place of https://api.twilio.com.
func (t *Twilio) URL() string { return "http://" + t.listener.Addr().String() }

// Received returns the messages that it took, oldest first. Their ID is the
// SID.
func (t *Twilio) Received() []Received {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.received)
}

// Requests returns how many requests to create a message came, and how many
// of them had wrong credentials.
func (t *Twilio) Requests() (all, refused int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.requests, t.refused
}

// Connections returns how many connections clients have opened.
func (t *Twilio) Connections() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conns
}

// Script replaces what it does with authorized requests to create a message,
// from the next one on; n counts all of them, from 1. nil takes everything
// again. The form of r is parsed.
func (t *Twilio) Script(f func(n int, r *http.Request) TwilioReply) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.script = f
}

// ScriptList replaces what it does with authorized requests to list messages, from
// the next one on; n counts all of them, from 1, each page by itself. nil lists
// everything again.
func (t *Twilio) ScriptList(f func(n int, r *http.Request) TwilioList) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lists = f
}

// Listed returns how many requests to list messages came.
func (t *Twilio) Listed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.listed
}

// OnReceive has f called with each message that it takes, before it answers.
func (t *Twilio) OnReceive(f func(Received)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.callback = f
}

// Hide keeps all messages out of the list, as if the real one were still
// catching up, or shows them again.
func (t *Twilio) Hide(hidden bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hidden = hidden
}

// Close ends all connections and waits for the listener to stop.
func (t *Twilio) Close() error {
	err := t.server.Close()
	<-t.served
	t.mu.Lock()
	t.cancel()
	t.mu.Unlock()
	t.calls.Wait()
	return err
}

// authorized answers requests without the right credentials.
func (t *Twilio) authorized(w http.ResponseWriter, r *http.Request) bool {
	user, pass, _ := r.BasicAuth()
	if user == t.sid && pass == t.token && r.PathValue("account") == t.sid {
		return true
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="Twilio API"`)
	answer(w, http.StatusUnauthorized, twilioError(http.StatusUnauthorized, 20003, "Authenticate"))
	return false
}

// account shows the account itself.
func (t *Twilio) account(w http.ResponseWriter, r *http.Request) {
	sid, ok := strings.CutSuffix(r.PathValue("account"), ".json")
	if !ok {
		answer(w, http.StatusNotFound, twilioError(http.StatusNotFound, 20404, "The requested resource was not found"))
		return
	}
	r.SetPathValue("account", sid)
	if t.authorized(w, r) {
		answer(w, http.StatusOK, encode(map[string]any{
			"sid": t.sid, "friendly_name": "stand-in", "status": "active", "type": "Full",
			"uri": "/2010-04-01/Accounts/" + t.sid + ".json",
		}))
	}
}

func (t *Twilio) create(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	t.requests++
	n, script, callback := t.requests, t.script, t.callback
	t.mu.Unlock()
	if !t.authorized(w, r) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.refused++
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		answer(w, http.StatusBadRequest, twilioError(http.StatusBadRequest, 20001, "The request could not be read"))
		return
	}
	reply := TwilioReply{}
	if script != nil {
		reply = script(n, r)
	} else if code, text := objection(r.PostForm); code != 0 {
		answer(w, http.StatusBadRequest, twilioError(http.StatusBadRequest, code, text))
		return
	}
	if reply.Status == 0 {
		reply.Status = http.StatusCreated
	}
	if reply.takes() {
		m := t.message(r.PostForm)
		got := Received{Channel: dispatch.ChannelSMS, ID: m.SID, Recipient: m.To, Body: m.Body, At: time.Now()}
		t.mu.Lock()
		t.messages = append(t.messages, m)
		t.received = append(t.received, got)
		taken := len(t.received)
		t.mu.Unlock()
		if callback != nil {
			callback(got)
		}
		t.report(taken, got, r.PostForm)
		if reply.Body == "" && reply.Status <= 299 {
			reply.Body = encode(m)
		}
	}
	if reply.Body == "" {
		reply.Body = twilioError(reply.Status, reply.Code, http.StatusText(reply.Status))
	}
	t.answer(w, r, reply)
}

func (t *Twilio) answer(w http.ResponseWriter, r *http.Request, reply TwilioReply) {
	if reply.Until != nil {
		select {
		case <-reply.Until:
		case <-r.Context().Done():
		}
	}
	switch {
	case reply.Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case reply.CutAfter && reply.CutAt > 0:
		cut(w, reply)
	case reply.CutBefore, reply.CutAfter:
		panic(http.ErrAbortHandler)
	default:
		maps.Copy(w.Header(), reply.Header)
		answer(w, reply.Status, reply.Body)
	}
}

// cut sends the first CutAt bytes of a reply and closes the connection.
func cut(w http.ResponseWriter, reply TwilioReply) {
	c, out, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer c.Close()
	whole := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		reply.Status, http.StatusText(reply.Status), len(reply.Body), reply.Body)
	_, _ = out.WriteString(whole[:min(reply.CutAt, len(whole))])
	_ = out.Flush()
}

// objection is what Twilio has against a form, in the order it looks.
func objection(form url.Values) (code int, text string) {
	body := form.Get("Body")
	switch {
	case form.Get("To") == "":
		return 21604, "A 'To' phone number is required."
	case form.Get("From") == "":
		return 21603, "A 'From' phone number is required."
	case body == "":
		return 21602, "Message body is required."
	case len([]rune(body)) > dispatch.MaxSMSBody:
		return 21617, "The concatenated message body exceeds the 1600 character limit"
	}
	return 0, ""
}

// message is the resource that a form creates.
func (t *Twilio) message(form url.Values) twilioMessage {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails
	sid := "SM" + hex.EncodeToString(raw)
	taken := time.Now()
	now := taken.UTC().Format(time.RFC1123Z)
	uri := fmt.Sprintf("/2010-04-01/Accounts/%s/Messages/%s", t.sid, sid)
	return twilioMessage{
		AccountSID:      t.sid,
		APIVersion:      "2010-04-01",
		Body:            form.Get("Body"),
		DateCreated:     now,
		DateUpdated:     now,
		Direction:       "outbound-api",
		From:            form.Get("From"),
		NumMedia:        "0",
		NumSegments:     strconv.Itoa(segments(form.Get("Body"))),
		SID:             sid,
		taken:           taken,
		Status:          "queued",
		SubresourceURIs: map[string]string{"media": uri + "/Media.json"},
		To:              form.Get("To"),
		URI:             uri + ".json",
	}
}

// segments is how many SMS a text takes, for texts in ASCII or UCS-2.
func segments(text string) int {
	units, one, many := len(utf16.Encode([]rune(text))), 160, 153
	if units != len(text) { // a character outside of ASCII
		one, many = 70, 67
	}
	if units <= one {
		return 1
	}
	return (units + many - 1) / many
}

// list shows messages, newest first, by To and From, in pages.
func (t *Twilio) list(w http.ResponseWriter, r *http.Request) {
	if !t.authorized(w, r) {
		return
	}
	query := r.URL.Query()
	size, page := number(query.Get("PageSize"), 50), number(query.Get("Page"), 0)
	size = min(max(size, 1), 1000)

	t.mu.Lock()
	t.listed++
	n, script := t.listed, t.lists
	t.mu.Unlock()
	reply := TwilioList{}
	if script != nil {
		reply = script(n, r)
	}
	switch {
	case reply.Cut:
		panic(http.ErrAbortHandler)
	case reply.Status != 0 && reply.Body == "":
		reply.Body = twilioError(reply.Status, reply.Code, http.StatusText(reply.Status))
	case reply.Status == 0:
		reply.Status = http.StatusOK
	}
	if reply.Body != "" {
		answer(w, reply.Status, reply.Body)
		return
	}
	if reply.PageSize > 0 {
		size = min(size, reply.PageSize)
	}
	all := t.matching(query.Get("To"), query.Get("From"), reply)

	start := min(page*size, len(all))
	end := min(start+size, len(all))
	at := func(page int) string {
		q := maps.Clone(query)
		q.Set("PageSize", strconv.Itoa(size))
		q.Set("Page", strconv.Itoa(page))
		return r.URL.Path + "?" + q.Encode()
	}
	var next, previous *string
	if end < len(all) {
		next = new(at(page + 1))
	}
	if page > 0 {
		previous = new(at(page - 1))
	}
	answer(w, http.StatusOK, encode(map[string]any{
		"messages": append([]twilioMessage{}, all[start:end]...),
		"page":     page, "page_size": size, "start": start, "end": max(end-1, 0),
		"uri": at(page), "first_page_uri": at(0), "next_page_uri": next, "previous_page_uri": previous,
	}))
}

// matching are the messages to and from the given numbers, "" being any, newest
// first.
func (t *Twilio) matching(to, from string, reply TwilioList) (all []twilioMessage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range slices.Backward(t.messages) {
		if t.hidden || time.Since(m.taken) < reply.After || to != "" && to != m.To || from != "" && from != m.From {
			continue
		}
		if reply.Rewrite != nil {
			m.Body = reply.Rewrite(m.Body)
		}
		all = append(all, m)
	}
	return all
}

// number reads a parameter that is a small number, or else is def.
func number(s string, def int) int {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n < 1<<20 {
		return n
	}
	return def
}

// twilioError is an error's body as Twilio writes it.
func twilioError(status, code int, text string) string {
	return encode(map[string]any{
		"code": code, "message": text, "status": status,
		"more_info": fmt.Sprintf("https://www.twilio.com/docs/errors/%d", code),
	})
}

func encode(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return string(raw)
}

func answer(w http.ResponseWriter, status int, body string) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json;charset=utf-8")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
