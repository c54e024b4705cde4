package standin

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What models and their servers do, each time they are asked.
var (
	OpenAIGood        = OpenAIAlways(OpenAIReply{})
	OpenAITooLong     = openAIEach(func(text string) string { return text + strings.Repeat(" and so on", 200) })
	OpenAIWithoutLink = openAIEach(func(text string) string { return "Written by a model, without what it was to have in it" })
	OpenAIForeignLink = openAIEach(func(text string) string { return text + " or https://evil.example/pay" })
	OpenAIRefusal     = OpenAIAlways(OpenAIReply{Refusal: "I'm sorry, I can't assist with that request."})
	OpenAIBrokenJSON  = OpenAIAlways(OpenAIReply{Content: `{"sms": "Written by a mod`})
	OpenAICutOff      = OpenAIAlways(OpenAIReply{Content: `{"sms": "Written by a mod`, Finish: "length"})
	OpenAIFiltered    = OpenAIAlways(OpenAIReply{Content: `{"sms": "Writ`, Finish: "content_filter"})
	OpenAINoChoices   = OpenAIAlways(OpenAIReply{NoChoices: true})
	OpenAISilent      = OpenAIAlways(OpenAIReply{Hang: true})
	OpenAINoQuota     = OpenAIAlways(OpenAIReply{Status: http.StatusTooManyRequests, Code: "insufficient_quota"})
	OpenAIServerError = OpenAIAlways(OpenAIReply{Status: http.StatusInternalServerError})
	OpenAIBadGateway  = OpenAIAlways(OpenAIReply{
		Status: http.StatusBadGateway, Header: http.Header{"Content-Type": {"text/html"}},
		Body: "<html><head><title>502 Bad Gateway</title></head><body><center>cloudflare</center></body></html>",
	})
	OpenAIDrip = OpenAIAlways(OpenAIReply{Drip: 50 * time.Millisecond})
)

// OpenAIRateLimited asks to come again after a number of seconds.
func OpenAIRateLimited(seconds int) OpenAIScript {
	return OpenAIAlways(OpenAIReply{
		Status: http.StatusTooManyRequests, Code: "rate_limit_exceeded",
		Header: http.Header{"Retry-After": {strconv.Itoa(seconds)}},
	})
}

// OpenAIFirst does first once, and then what then does.
func OpenAIFirst(first, then OpenAIScript) OpenAIScript {
	return func(n int, r OpenAIRequest) OpenAIReply {
		if n == 1 {
			return first(n, r)
		}
		return then(n, r)
	}
}

// OpenAIOld knows neither schemas nor the parameters of newer models, as many
// servers that call themselves compatible.
func OpenAIOld(_ int, r OpenAIRequest) OpenAIReply {
	for _, unknown := range []string{"json_schema", "reasoning_effort", "max_completion_tokens"} {
		if strings.Contains(string(r.Body), `"`+unknown+`"`) {
			return OpenAIReply{Status: http.StatusBadRequest, Body: `{"detail": "` + unknown + `: extra inputs are not permitted"}`}
		}
	}
	return OpenAIReply{Content: "```json\n" + OpenAIAnswer(r, nil) + "\n```"}
}

// OpenAIAlways replies with the same each time.
func OpenAIAlways(reply OpenAIReply) OpenAIScript {
	return func(int, OpenAIRequest) OpenAIReply { return reply }
}

// openAIEach answers with texts that are changed by f.
func openAIEach(f func(text string) string) OpenAIScript {
	return func(_ int, r OpenAIRequest) OpenAIReply {
		return OpenAIReply{Content: OpenAIAnswer(r, func(_, text string) string { return f(text) })}
	}
}
