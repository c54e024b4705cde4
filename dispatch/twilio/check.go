package twilio

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Check asks Twilio for the account, which changes nothing and costs nothing. Its
// error names the variables of which one has to be mended, and never the token. A
// ctx without a deadline gets that of Policy.
func (s *Sender) Check(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, Policy.Timeout)
		defer cancel()
	}
	c := &call{ctx: ctx, sender: s}
	account, err := c.service().FetchAccount(s.account)
	switch {
	case c.failed != nil:
		return fmt.Errorf("TWILIO_API_BASE_URL: %w", c.failed.Err)
	case c.answer == nil:
		return errors.New("TWILIO_API_BASE_URL: the library made no request")
	}
	variable := "TWILIO_API_BASE_URL"
	switch status := c.answer.status; {
	case status >= 200 && status <= 299 && err == nil && account.Sid != nil && *account.Sid == s.account:
		if account.Status != nil && *account.Status != "active" {
			return fmt.Errorf("TWILIO_ACCOUNT_SID: the account is %s", oneOf(*account.Status, "suspended", "closed"))
		}
		return nil
	case status >= 200 && status <= 299:
		return errors.New("TWILIO_API_BASE_URL: what answers there does not answer as Twilio does")
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound:
		variable = "TWILIO_ACCOUNT_SID or TWILIO_AUTH_TOKEN"
	}
	code := ""
	if c.answer.code != 0 {
		code = fmt.Sprintf(", code %d", c.answer.code)
	}
	return fmt.Errorf("%s: %s (status %d%s)", variable, c.answer.meaning(), c.answer.status, code)
}

// oneOf is word where it is one of known; what else the other side wrote is not
// repeated.
func oneOf(word string, known ...string) string {
	for _, k := range known {
		if word == k {
			return word
		}
	}
	return "not active"
}
