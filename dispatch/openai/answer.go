package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	api "github.com/sashabaranov/go-openai"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
)

// reply is a good answer: the texts by the names of the fields, without those
// that the model left out. Nothing is checked yet.
type reply struct {
	id     string // the server's name for it
	status int
	texts  map[string]string
}

// failure is why no answer came, for Write as well as for Send.
type failure struct {
	reason  string        // short and stable; nothing of the content, of the reply or the key
	passes  bool          // another try may go better
	simpler bool          // another try may go better if it asks for less
	late    bool          // it was not ours to ask any more
	failing bool          // the server does not answer, or nothing is left to pay it with
	wait    time.Duration // the server's wish before the next try; 0 when it had none
	pause   time.Duration // our own

	kind   dispatch.Kind
	status int
	code   string // one of codes, or ""
}

// Error implements error.
func (f *failure) Error() string { return f.reason }

// Is says what the listener asks of it, beside its text.
func (f *failure) Is(target error) bool { return f.late && target == dispatch.ErrLate }

const (
	brokenAnswer = "broken answer"
	interrupted  = "interrupted"
)

func broken(status int) *failure {
	return &failure{reason: brokenAnswer, passes: true, kind: dispatch.Down, status: status}
}

// unanswered is the failure where no whole reply came.
func unanswered(ctx context.Context, e *dispatch.Error) *failure {
	f := &failure{kind: e.Kind, status: e.Status}
	switch {
	case errors.Is(e, dispatch.ErrLate):
		f.reason, f.late = "not asked", true
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		f.reason, f.failing = "timed out", true
	case ctx.Err() != nil:
		f.reason = interrupted
	case e.Kind == dispatch.Unknown:
		f.reason, f.passes, f.failing, f.pause = "connection lost", true, true, shortPause
	default:
		f.reason, f.passes, f.failing, f.pause = "not reachable", true, true, shortPause
	}
	return f
}

// codes are the server's error codes that are passed on, since they have a
// meaning beyond their status. Any other may be anything, our key for example.
// See https://platform.openai.com/docs/guides/error-codes.
var codes = map[string]string{
	"insufficient_quota":         noQuota,
	"billing_not_active":         noQuota,
	"billing_hard_limit_reached": noQuota,
	"rate_limit_exceeded":        "",
	"invalid_api_key":            "",
	"model_not_found":            "",
	"context_length_exceeded":    "too much to read",
	"string_above_max_length":    "too much to read",
	"content_filter":             filtered,
	"content_policy_violation":   filtered,
	"invalid_prompt":             filtered,
}

const (
	noQuota  = "no quota"
	filtered = "filtered"
)

// refused says what a status other than 2xx means.
//
//	a code for no quota, 402  Down: somebody has to pay
//	429                       Throttled
//	401, 403, 404, 3xx        Down: key, model or base URL are wrong for all
//	                          alike; an operator mends that. A 404 is Rejected
//	                          where the prompt names the model itself
//	408, 409, 425             Down: said before any work was done
//	504                       Unknown, other 5xx Down
//	400, 422, other 4xx       Rejected; the first two once more, with less in
//	                          the request, unless their code is about content
func refused(res *httpsend.Response, own, plain bool, now time.Time) *failure {
	code := codeOf(res.Body)
	f := &failure{status: res.Status, code: code, wait: httpsend.RetryAfter(res.Header, now)}
	meaning := codes[code]
	switch s := res.Status; {
	case meaning == noQuota || s == http.StatusPaymentRequired:
		f.reason, f.kind, f.failing = noQuota, dispatch.Down, true
	case s == http.StatusTooManyRequests:
		f.reason, f.kind, f.passes = "rate limited", dispatch.Throttled, f.wait > 0
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		f.reason, f.kind = fmt.Sprintf("key refused (%d)", s), dispatch.Down
	case s == http.StatusNotFound:
		f.reason, f.kind = "no such model or address (404)", dispatch.Down
		if own {
			f.kind = dispatch.Rejected
		}
	case s < 400:
		f.reason, f.kind = fmt.Sprintf("redirected (%d)", s), dispatch.Down
	case s == http.StatusRequestTimeout, s == http.StatusConflict, s == http.StatusTooEarly:
		f.reason, f.kind, f.passes, f.pause = fmt.Sprintf("server busy (%d)", s), dispatch.Down, true, shortPause
	case s >= 500:
		f.reason, f.kind, f.passes, f.failing, f.pause = fmt.Sprintf("server error (%d)", s), dispatch.Down, true, true, shortPause
		if httpsend.KindOf(s) == dispatch.Unknown {
			f.kind = dispatch.Unknown
		}
	case meaning != "":
		f.reason, f.kind = meaning, dispatch.Rejected
	default:
		f.reason, f.kind = fmt.Sprintf("request refused (%d)", s), dispatch.Rejected
		f.simpler = !plain && (s == http.StatusBadRequest || s == http.StatusUnprocessableEntity)
	}
	return f
}

// codeOf is the code of an error's body, or its type where that is the code, as
// it is with some servers. It is one of codes, or "".
func codeOf(body []byte) string {
	var b struct {
		Error json.RawMessage `json:"error"`
	}
	var e struct {
		Code any `json:"code"`
		Type any `json:"type"`
	}
	if json.Unmarshal(body, &b) != nil || json.Unmarshal(b.Error, &e) != nil {
		return ""
	}
	for _, v := range []any{e.Code, e.Type} {
		if s, ok := v.(string); ok {
			if _, known := codes[s]; known {
				return s
			}
		}
	}
	return ""
}

// read takes the texts from a completion. A reply of 200 may hold none: no
// choices, a refusal, an answer that a filter or a limit has cut.
func read(c api.ChatCompletionResponse, fields []Field) (*reply, *failure) {
	if len(c.Choices) == 0 {
		return nil, broken(0)
	}
	choice := c.Choices[0]
	switch {
	case choice.Message.Refusal != "":
		return nil, &failure{reason: "refused", kind: dispatch.Rejected}
	case choice.FinishReason == api.FinishReasonContentFilter:
		return nil, &failure{reason: filtered, kind: dispatch.Rejected}
	case choice.FinishReason == api.FinishReasonLength:
		return nil, &failure{reason: "cut off", kind: dispatch.Rejected}
	case len(choice.Message.Content) > maxAnswer:
		return nil, &failure{reason: "too large an answer", kind: dispatch.Rejected}
	}
	texts, ok := parse(choice.Message.Content, fields)
	if !ok {
		return nil, broken(0)
	}
	return &reply{id: c.ID, texts: texts}, nil
}

// parse reads an object with a string or null for each field. Other keys do not
// matter. Models that were asked for JSON in words like to put it between the
// marks of a code block.
func parse(content string, fields []Field) (map[string]string, bool) {
	content = strings.TrimSpace(content)
	if inner, ok := strings.CutPrefix(content, "```"); ok {
		inner = strings.TrimPrefix(inner, "json")
		content = strings.TrimSuffix(inner, "```")
	}
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(content), &object) != nil || object == nil {
		return nil, false
	}
	texts := make(map[string]string, len(fields))
	for _, f := range fields {
		raw, ok := object[f.Name]
		if !ok {
			continue
		}
		var text *string
		if json.Unmarshal(raw, &text) != nil {
			return nil, false
		}
		if text != nil {
			texts[f.Name] = *text
		}
	}
	return texts, true
}
