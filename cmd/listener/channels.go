package main

import (
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpcall"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
	"github.com/outbox-listener/outbox-listener/dispatch/openai"
	"github.com/outbox-listener/outbox-listener/dispatch/sink"
	"github.com/outbox-listener/outbox-listener/dispatch/smtp"
	"github.com/outbox-listener/outbox-listener/dispatch/twilio"
	"github.com/outbox-listener/outbox-listener/dispatch/webhook"
)

// missing returns which variables ch still needs. Where it returns none, the
// channel can be made.
func (c *config) missing(ch dispatch.Channel) []string {
	type need struct {
		name string
		set  bool
	}
	var needs []need
	switch ch {
	case dispatch.ChannelSMS:
		needs = []need{{"TWILIO_ACCOUNT_SID", c.Twilio.AccountSID != ""}, {"TWILIO_AUTH_TOKEN", c.Twilio.AuthToken != ""}, {"TWILIO_FROM", c.Twilio.From != ""}}
	case dispatch.ChannelEmail:
		user, pass := c.SMTP.User != "", c.SMTP.Pass != ""
		needs = []need{{"SMTP_HOST", c.SMTP.Host != ""}, {"SMTP_FROM", c.SMTP.From != ""},
			{"SMTP_USER", user || !pass}, {"SMTP_PASS", pass || !user}}
	case dispatch.ChannelWebhook:
		needs = []need{{"OUTBOX_WEBHOOK_SECRET", c.Webhook.Secret != ""}}
	case dispatch.ChannelOpenAI:
		needs = []need{{"OPENAI_API_KEY", c.OpenAI.Key != ""}}
	}
	var names []string
	for _, n := range needs {
		if !n.set {
			names = append(names, n.name)
		}
	}
	return names
}

// mailConns is the most connections to the mail server at once: more than
// enough for the workers, and fewer than servers commonly allow one client.
const mailConns = 8

// providers are the channels whose absence is warned about. That of a model is
// not: routes then have their templates.
var providers = []dispatch.Channel{dispatch.ChannelSMS, dispatch.ChannelEmail, dispatch.ChannelWebhook}

// channels has the senders of everything that is configured.
type channels struct {
	*dispatch.Dispatcher
	names  []string
	close  []io.Closer
	clock  *dispatch.Clock  // the database's time, once there is a listener
	openai *openai.Client   // writes the copy of routes; nil where none is configured
	twilio *twilio.Sender   // nil where SMS are not configured
	http   *httpcall.Sender // has no credentials before the routes give it some
	made   map[dispatch.Channel]dispatch.Sender
}

// newChannels makes the senders. What it finds wrong with the configuration
// is what shows only when the variables of one channel are seen together.
func newChannels(c *config, log *slog.Logger) (*channels, configError) {
	out := &channels{Dispatcher: dispatch.New(), clock: &dispatch.Clock{}, made: map[dispatch.Channel]dispatch.Sender{}}
	var problems configError
	add := func(ch dispatch.Channel, s dispatch.Sender, p dispatch.Policy, err error) {
		if err != nil {
			// "TWILIO_FROM: why" or "smtp: why"
			name, reason, _ := strings.Cut(err.Error(), ": ")
			if name != strings.ToUpper(name) {
				name = strings.ToUpper(name) + "_*"
			}
			problems = append(problems, problem{name: name, reason: "cannot be used: " + oneLine(reason)})
			return
		}
		if follows, ok := c.OnUncertain[ch]; ok {
			p.OnUnknown = follows
		}
		out.Register(ch, s, p)
		out.made[ch] = s
		out.names = append(out.names, string(ch))
		if c, ok := s.(io.Closer); ok {
			out.close = append(out.close, c)
		}
	}
	add(dispatch.ChannelLog, sink.NewLog(log), dispatch.Policy{}, nil)
	add(dispatch.ChannelDiscard, sink.NewDiscard(), dispatch.Policy{}, nil)
	if len(c.missing(dispatch.ChannelSMS)) == 0 {
		s, err := twilio.New(twilio.Config{AccountSID: c.Twilio.AccountSID, AuthToken: c.Twilio.AuthToken, From: c.Twilio.From,
			BaseURL: c.Twilio.BaseURL, Callback: c.Twilio.Callback, Now: out.clock.Now})
		out.twilio = s
		add(dispatch.ChannelSMS, s, twilio.Policy, err)
	}
	if len(c.missing(dispatch.ChannelEmail)) == 0 {
		policy := smtp.Policy
		policy.Concurrency = min(c.Workers, mailConns) // more would wait with a worker in hand
		s, err := smtp.New(smtp.Config{Host: c.SMTP.Host, Port: c.SMTP.Port, User: c.SMTP.User, Pass: c.SMTP.Pass, From: c.SMTP.From, TLS: c.SMTP.TLS,
			MaxConns: policy.Concurrency})
		add(dispatch.ChannelEmail, s, policy, err)
	}
	reach := httpsend.Reach{AllowCIDRs: c.Webhook.Allow, AllowHTTP: c.Webhook.AllowHTTP}
	// Without routes too: a request of a route that is no more is on record, and
	// it is not to be skipped for want of a sender.
	var err error
	out.http, err = httpcall.New(httpcall.Config{Reach: reach, UserAgent: "outbox-listener/" + version(), Now: out.clock.Now})
	add(dispatch.ChannelHTTP, out.http, httpcall.Policy, err)
	if len(c.missing(dispatch.ChannelWebhook)) == 0 {
		s, err := webhook.New(webhook.Config{Secrets: []dispatch.Secret{c.Webhook.Secret}, Reach: reach, UserAgent: "outbox-listener/" + version(),
			Now: out.clock.Now})
		add(dispatch.ChannelWebhook, s, webhook.Policy, err)
	}
	if len(c.missing(dispatch.ChannelOpenAI)) == 0 {
		s, err := openai.New(openai.Config{Key: c.OpenAI.Key, Model: c.OpenAI.Model, BaseURL: c.OpenAI.BaseURL, UserAgent: "outbox-listener/" + version(),
			Now: out.clock.Now})
		add(dispatch.ChannelOpenAI, s, openai.Policy, err)
		out.openai = s
	}
	slices.Sort(out.names)
	return out, problems
}

// Close lets go of what the senders keep open.
func (c *channels) Close() {
	for _, s := range c.close {
		_ = s.Close() // nothing is under way any more
	}
}

// warnUnconfigured writes a line for each of channels whose deliveries will be
// skipped.
func warnUnconfigured(c *config, channels []dispatch.Channel, log *slog.Logger) {
	for _, ch := range channels {
		if missing := c.missing(ch); len(missing) > 0 {
			log.Warn("channel not configured; its deliveries are skipped", "channel", string(ch), "missing", strings.Join(missing, ", "))
		}
	}
}

// warnFallbacks writes a line for each step that is sent for SMS that did not arrive, where
// nobody will say that one did not. Without routes rules is nil.
func warnFallbacks(c *config, rules *ruleset, log *slog.Logger) {
	if rules == nil || c.Twilio.Callback != "" {
		return
	}
	for _, f := range rules.Fallbacks() {
		log.Warn("a fallback is sent only where Twilio refuses the SMS: whether one arrived is not reported without OUTBOX_TWILIO_CALLBACK_URL",
			"step", f.Step, "instead_of", f.InsteadOf, "line", f.Place.Line)
	}
}

// warnRedirected writes one line that says what does not go to whom it is for.
func warnRedirected(r dispatch.Redirect, log *slog.Logger) {
	if !r.Active() {
		return
	}
	rest := "held"
	if len(r.Allow) > 0 {
		rest = "held but for " + r.Allow.String()
	}
	where := func(ch dispatch.Channel, to string) string {
		if to == "" {
			return rest
		}
		return "all to " + dispatch.Mask(ch, dispatch.Addr(to))
	}
	log.Warn("STAGING: deliveries do not go to whom they are for", "sms", where(dispatch.ChannelSMS, r.SMS),
		"email", where(dispatch.ChannelEmail, r.Email), "webhook and http", rest)
}
