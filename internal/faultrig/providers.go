//go:build unix

package faultrig

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// ProvidersEnv in the environment makes a program that calls ServeProviders in
// time play the providers; it is the path of their ledger.
const ProvidersEnv = "FAULTRIG_PROVIDERS"

// What else the environment of the providers has.
const (
	providersSeed = "FAULTRIG_SEED"
	providersLie  = "FAULTRIG_LIST_LIES" // "true": Twilio's list is empty
)

// What the stand-ins and the listeners have to agree on.
const (
	accountSID = "ACfaultrig"
	authToken  = "faultrig-token"
	openAIKey  = "sk-faultrig"
)

var webhookSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of the fault rig's own"))

// Line is one line of the providers' ledger: something that was accepted, or a
// fault that a provider was about to have with a request. A line is on disk before
// the request is answered.
type Line struct {
	At      time.Time `json:"at"`
	Channel string    `json:"channel"`
	Event   string    `json:"event"`         // whose id stands in the content
	ID      string    `json:"id,omitempty"`  // webhook-id, Message-ID or SID
	Sum     string    `json:"sum,omitempty"` // of the bytes that must be the same each time
	Fault   string    `json:"fault,omitempty"`
	Wait    int       `json:"wait,omitempty"` // seconds, where it answered with a Retry-After
}

// ledger is the file of Lines.
type ledger struct {
	mu    sync.Mutex
	file  *os.File
	seen  map[string]int // requests so far, by channel and event
	seed  uint64
	fatal func(error)
}

// write adds a line and returns when it is on disk.
func (l *ledger) write(line Line) {
	text, err := json.Marshal(line)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		_, err = l.file.Write(append(text, '\n'))
	}
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		l.fatal(err)
	}
}

func (l *ledger) accept(r standin.Received) {
	sum := sha256.Sum256([]byte(r.Recipient + "\x00" + r.Body))
	l.write(Line{
		At: time.Now(), Channel: string(r.Channel), Event: eventIn(r.Body),
		ID: r.ID, Sum: hex.EncodeToString(sum[:8]),
	})
}

// marked is how the id of an event stands in its content.
var marked = regexp.MustCompile(`#([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})#`)

// eventIn returns the id of the event that a text was made of, or "".
func eventIn(text string) string {
	if m := marked.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// addresses are where the providers are, as host:port.
type addresses struct {
	Twilio  string `json:"twilio"`
	SMTP    string `json:"smtp"`
	Webhook string `json:"webhook"`
	API     string `json:"api"`
	OpenAI  string `json:"openai"`
}

// ServeProviders plays the providers until stdin ends, where ProvidersEnv says
// so, and returns an exit code. It writes where they are in a line on stdout.
func ServeProviders() (code int) {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "providers:", err)
		return 1
	}
	file, err := os.OpenFile(os.Getenv(ProvidersEnv), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fail(err)
	}
	defer file.Close()
	seed, err := strconv.ParseUint(os.Getenv(providersSeed), 10, 64)
	if err != nil {
		return fail(err)
	}
	l := &ledger{file: file, seen: map[string]int{}, seed: seed, fatal: func(err error) { os.Exit(fail(err)) }}

	twilio, err := standin.NewTwilio(accountSID, authToken)
	if err != nil {
		return fail(err)
	}
	defer twilio.Close()
	twilio.OnReceive(l.accept)
	twilio.Hide(os.Getenv(providersLie) == "true")
	twilio.ScriptList(listed)
	twilio.Script(func(_ int, r *http.Request) standin.TwilioReply {
		switch m, header := l.mishap("sms", eventIn(r.PostForm.Get("Body")), false); m {
		case cutAfter:
			return standin.TwilioReply{CutAfter: true}
		case broken:
			return standin.TwilioReply{Status: http.StatusServiceUnavailable}
		case brokenTaken:
			return standin.TwilioReply{Status: http.StatusServiceUnavailable, Taken: true}
		case throttled:
			return standin.TwilioReply{Status: http.StatusTooManyRequests, Code: 20429, Header: header}
		}
		return standin.TwilioReply{}
	})

	mail, err := standin.NewSMTP(standin.SMTPOptions{})
	if err != nil {
		return fail(err)
	}
	defer mail.Close()
	mail.OnReceive(l.accept)
	mail.Script(l.mailed)

	webhook, err := standin.NewWebhook(webhookSecret)
	if err != nil {
		return fail(err)
	}
	defer webhook.Close()
	webhook.OnReceive(l.accept)
	webhook.Script(l.answer("webhook"))

	api, err := standin.NewAPI(standin.APIConfig{})
	if err != nil {
		return fail(err)
	}
	defer api.Close()
	api.OnReceive(l.accept)
	api.Script(l.answer("http"))

	model, err := standin.NewOpenAI(openAIKey)
	if err != nil {
		return fail(err)
	}
	defer model.Close()
	model.Script(func(n int, _ standin.OpenAIRequest) standin.OpenAIReply {
		return standin.OpenAIReply{Content: fmt.Sprintf(`{"line": "the words of answer %d"}`, n)}
	})

	err = json.NewEncoder(os.Stdout).Encode(addresses{
		Twilio:  twilio.URL()[len("http://"):],
		SMTP:    fmt.Sprintf("%s:%d", mail.Host(), mail.Port()),
		Webhook: webhook.URL()[len("http://"):],
		API:     api.URL()[len("http://"):],
		OpenAI:  strings.TrimSuffix(model.URL()[len("http://"):], modelPath),
	})
	if err != nil {
		return fail(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with whoever started us
	return 0
}

// modelPath is where the model is asked, below its address.
const modelPath = "/v1"

// providers is the process that plays them.
type providers struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	ledger string
	at     addresses
}

// startProviders runs this program again, as the providers.
func startProviders(ledger string, plan Plan, stderr io.Writer) (*providers, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &providers{cmd: exec.Command(self), ledger: ledger}
	p.cmd.Env = append(os.Environ(), ProvidersEnv+"="+ledger,
		fmt.Sprintf("%s=%d", providersSeed, plan.Seed), fmt.Sprintf("%s=%t", providersLie, plan.ListLies))
	p.cmd.Stderr = stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.at)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("providers did not start: %w", err), p.stop())
	}
	return p, nil
}

// stop ends the process.
func (p *providers) stop() error {
	_ = p.stdin.Close() // or it has ended
	return p.cmd.Wait()
}

// read returns the ledger so far.
func (p *providers) read() ([]Line, error) {
	file, err := os.Open(p.ledger)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var lines []Line
	for dec := json.NewDecoder(file); ; {
		var l Line
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the providers' ledger: %w", err)
		}
		lines = append(lines, l)
	}
}
