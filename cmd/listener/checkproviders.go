package main

import (
	"context"
	"strings"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// checkTimeout bounds what is asked of one provider.
const checkTimeout = 20 * time.Second

// checker is a sender whose provider can be asked something that does no harm.
type checker interface {
	// Check returns what is wrong, in a sentence that begins with the variables
	// that mend it.
	Check(ctx context.Context) error
}

// providers asks each provider that is configured whether it knows us.
func (c *checkup) providers(ctx context.Context) {
	all := []dispatch.Channel{dispatch.ChannelSMS, dispatch.ChannelEmail, dispatch.ChannelOpenAI, dispatch.ChannelWebhook}
	results, errs := make([]string, len(all)), make([]error, len(all))
	sideBySide(len(all), func(i int) {
		sender, can := c.senders.made[all[i]].(checker)
		switch {
		case !c.senders.Configured(all[i]):
			results[i] = "not configured"
		case !can:
			results[i] = "configured; there is nobody to ask before one is sent"
		case c.cmd.Offline:
			results[i] = "configured; not asked (--offline)"
		default:
			ctx, cancel := context.WithTimeout(ctx, checkTimeout)
			defer cancel()
			if errs[i] = sender.Check(ctx); errs[i] == nil {
				results[i] = "answers"
			} else {
				results[i] = "does not work"
			}
		}
	})
	for i, ch := range all {
		if errs[i] != nil {
			c.problem("%s", c.settings.scrub(errs[i].Error()))
		}
		c.looked(string(ch), "%s", results[i])
	}
}

// credentials reads the credentials of http steps, and gets a token for those that
// have one.
func (c *checkup) credentials(ctx context.Context) {
	if c.routes == nil {
		return
	}
	uses := c.routes.CredentialUses()
	if len(uses) == 0 {
		return
	}
	all, err := readCredentials(c.routes, c.path, c.settings)
	if err == nil {
		err = c.senders.http.SetCredentials(all)
	}
	if err != nil {
		c.fileProblems(err)
		c.looked("credentials", "%d, not all of them usable", len(uses))
		return
	}
	for _, u := range uses {
		if _, ok := all[u.Name]; !ok {
			c.warnAt(u.Place, "the credential %s is left out, since not all of its variables are set (%s); a request that carries it all the same fails", u.Name, strings.Join(u.Variables, ", "))
		}
	}
	for _, u := range c.routes.Channels() {
		if u.Exposed {
			c.warnAt(u.Place, "the step %s sends the credential %s to whatever host the event names; give the credential its hosts", u.Step, u.Credential)
		}
	}
	if c.cmd.Offline {
		c.looked("credentials", "%d; not tried (--offline)", len(uses))
		return
	}
	asked, errs := make([]bool, len(uses)), make([]error, len(uses))
	sideBySide(len(uses), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		asked[i], errs[i] = c.senders.http.Check(ctx, uses[i].Name)
	})
	tokens := 0
	for i, u := range uses {
		switch {
		case errs[i] != nil:
			c.problemAt(u.Place, "%v; its variables are %s", errs[i], strings.Join(u.Variables, ", "))
		case asked[i]:
			tokens++
		}
	}
	c.looked("credentials", "%d; %s fetched", len(uses), counted(tokens, "token"))
}
