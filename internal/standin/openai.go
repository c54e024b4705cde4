package standin

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// OpenAIRequest is a request for a completion, as it came.
type OpenAIRequest struct {
	Header http.Header
	Body   []byte

	Model  string
	System string          // the instructions
	User   string          // the rest
	Schema json.RawMessage // of the answer; nil where none was given
	Fields []string        // the keys that the schema asks for, in its order
	At     time.Time
}

// OpenAIReply is what a scripted OpenAI does with one request. The zero value
// answers as a model does that keeps to what it was told.
type OpenAIReply struct {
	Status int // 0 means 200
	Header http.Header
	Body   string // the whole body; "" means the completion for 200, and an error by Code for anything else
	Code   string // the error's code, where Body is ""

	Content   string // the model's text; "" means an answer to the schema
	Finish    string // "" means stop
	Refusal   string // instead of a text
	NoChoices bool

	Hang      bool          // take it, then say nothing until the client goes away
	CutBefore bool          // close the connection
	Drip      time.Duration // the time between any two bytes of the body
}

// OpenAIScript says what an OpenAI does with a request that it has nothing
// against; n counts those from 1.
type OpenAIScript func(n int, r OpenAIRequest) OpenAIReply

// OpenAI is the chat completions of OpenAI's API on a loopback address. It
// refuses what the real one refuses: unknown parameters, those that a model
// does not take, schemas that are not strict.
type OpenAI struct {
	key      string
	server   *http.Server
	listener net.Listener
	served   chan struct{}

	mu       sync.Mutex
	script   OpenAIScript
	asked    []OpenAIRequest
	requests int
	refused  int
}

// NewOpenAI starts an OpenAI that knows one key. Close it after use.
func NewOpenAI(key string) (*OpenAI, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &OpenAI{key: key, listener: l, served: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", o.complete)
	mux.HandleFunc("GET /v1/models", o.models)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusNotFound, openAIError("invalid_request_error", "", "unknown_url", "Unknown request URL: "+r.Method+" "+r.URL.Path))
	})
	o.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(o.served)
		_ = o.server.Serve(l)
	}()
	return o, nil
}

// URL is what stands in place of https://api.openai.com/v1.
func (o *OpenAI) URL() string { return "http://" + o.listener.Addr().String() + "/v1" }

// Asked returns the requests that it had nothing against, oldest first.
func (o *OpenAI) Asked() []OpenAIRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.asked)
}

// Requests returns how many requests for a completion came, and how many of
// them it refused by itself: for their key, or as invalid.
func (o *OpenAI) Requests() (all, refused int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests, o.refused
}

// Script replaces what it does, from the next request on; nil answers well
// again. The counts begin anew.
func (o *OpenAI) Script(s OpenAIScript) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.script, o.asked, o.requests, o.refused = s, nil, 0, 0
}

// Close ends all connections and waits for the listener to stop.
func (o *OpenAI) Close() error {
	err := o.server.Close()
	<-o.served
	return err
}

// models lists a few of those that there are.
func (o *OpenAI) models(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+o.key {
		answer(w, http.StatusUnauthorized, openAIError("invalid_request_error", "", "invalid_api_key", "Incorrect API key provided"))
		return
	}
	var list []map[string]any
	for _, id := range []string{"gpt-4o", "gpt-4o-mini", "gpt-5", "gpt-5-mini", "gpt-5-nano"} {
		list = append(list, map[string]any{"id": id, "object": "model", "created": 1715367049, "owned_by": "openai"})
	}
	answer(w, http.StatusOK, encode(map[string]any{"object": "list", "data": list}))
}

func (o *OpenAI) complete(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20))
	req := OpenAIRequest{Header: r.Header.Clone(), Body: body, At: time.Now()}
	objection := o.objection(&req)
	if err != nil {
		objection = &openAIObjection{status: http.StatusRequestEntityTooLarge, message: "The request is too large"}
	}

	o.mu.Lock()
	o.requests++
	if objection != nil {
		o.refused++
		o.mu.Unlock()
		answer(w, objection.status, openAIError("invalid_request_error", objection.param, objection.code, objection.message))
		return
	}
	o.asked = append(o.asked, req)
	n, script := len(o.asked), o.script
	o.mu.Unlock()

	reply := OpenAIReply{}
	if script != nil {
		reply = script(n, req)
	}
	if reply.Status == 0 {
		reply.Status = http.StatusOK
	}
	if reply.Body == "" {
		if reply.Status == http.StatusOK {
			reply.Body = completion(req, reply)
		} else {
			reply.Body = openAIError("requests", "", reply.Code, http.StatusText(reply.Status))
		}
	}
	switch {
	case reply.Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case reply.CutBefore:
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), reply.Header)
	if reply.Drip > 0 {
		drip(w, r, reply)
		return
	}
	answer(w, reply.Status, reply.Body)
}

// drip sends the body byte by byte, as long as somebody reads it.
func drip(w http.ResponseWriter, r *http.Request, reply OpenAIReply) {
	w.WriteHeader(reply.Status)
	ticks := time.NewTicker(reply.Drip)
	defer ticks.Stop()
	for i := range len(reply.Body) {
		if _, err := io.WriteString(w, reply.Body[i:i+1]); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-ticks.C:
		case <-r.Context().Done():
			return
		}
	}
}

// completion is the resource that answers a request.
func completion(req OpenAIRequest, reply OpenAIReply) string {
	message := map[string]any{"role": "assistant", "content": reply.Content, "refusal": nil, "annotations": []any{}}
	switch {
	case reply.Refusal != "":
		message["content"], message["refusal"] = nil, reply.Refusal
	case reply.Content == "":
		message["content"] = OpenAIAnswer(req, nil)
	}
	finish := reply.Finish
	if finish == "" {
		finish = "stop"
	}
	choices := []any{map[string]any{"index": 0, "message": message, "logprobs": nil, "finish_reason": finish}}
	if reply.NoChoices {
		choices = []any{}
	}
	return encode(map[string]any{
		"id": "chatcmpl-" + rand.Text(), "object": "chat.completion", "created": req.At.Unix(), "model": req.Model,
		"choices": choices,
		"usage": map[string]any{
			"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
			"prompt_tokens_details":     map[string]any{"cached_tokens": 0, "audio_tokens": 0},
			"completion_tokens_details": map[string]any{"reasoning_tokens": 0, "audio_tokens": 0},
		},
		"service_tier": "default", "system_fingerprint": nil,
	})
}

// OpenAIAnswer is what a good model writes to r: for each field a sentence with
// what the request says it requires. each may change a text; nil changes none.
func OpenAIAnswer(r OpenAIRequest, each func(field, text string) string) string {
	var material struct {
		Required map[string][]string `json:"required"`
	}
	_ = json.Unmarshal([]byte(r.User), &material) // where it is no object, nothing is required
	texts := map[string]string{}
	for _, field := range r.Fields {
		text := strings.Join(append([]string{"Written by a model:", field}, material.Required[field]...), " ")
		if each != nil {
			text = each(field, text)
		}
		texts[field] = text
	}
	return encode(texts)
}

// openAIObjection is why a request is refused.
type openAIObjection struct {
	status               int
	param, code, message string
}

// openAIParameters are the parameters of a chat completion, by
// https://platform.openai.com/docs/api-reference/chat/create.
var openAIParameters = strings.Fields(`audio frequency_penalty function_call functions logit_bias logprobs
	max_completion_tokens max_tokens messages metadata modalities model n parallel_tool_calls prediction
	presence_penalty prompt_cache_key reasoning_effort response_format safety_identifier seed service_tier stop
	store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options`)

var (
	openAIModel     = regexp.MustCompile(`^(?:gpt-|o[134]|chatgpt-)[a-z0-9.\-]*$`)
	openAIReasoning = regexp.MustCompile(`^(?:o[134]|gpt-[56])`)
	openAIChatOnly  = regexp.MustCompile(`-chat`) // of the reasoning ones, those that do not
	schemaName      = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
)

// objection reads req, and says what the real API would have against it.
func (o *OpenAI) objection(req *OpenAIRequest) *openAIObjection {
	if req.Header.Get("Authorization") != "Bearer "+o.key {
		// The real one repeats some of the key.
		return &openAIObjection{http.StatusUnauthorized, "", "invalid_api_key", "Incorrect API key provided: " + req.Header.Get("Authorization")}
	}
	invalid := func(param, code, format string, args ...any) *openAIObjection {
		return &openAIObjection{http.StatusBadRequest, param, code, fmt.Sprintf(format, args...)}
	}
	var parameters map[string]json.RawMessage
	var body struct {
		Model    string `json:"model"`
		Messages []struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		} `json:"messages"`
		Temperature    *float64        `json:"temperature"`
		TopP           *float64        `json:"top_p"`
		Effort         *string         `json:"reasoning_effort"`
		MaxTokens      *int            `json:"max_tokens"`
		MaxCompletion  *int            `json:"max_completion_tokens"`
		Stream         bool            `json:"stream"`
		ResponseFormat json.RawMessage `json:"response_format"`
	}
	if json.Unmarshal(req.Body, &parameters) != nil || json.Unmarshal(req.Body, &body) != nil {
		return invalid("", "", "We could not parse the JSON body of your request.")
	}
	for name := range parameters {
		if !slices.Contains(openAIParameters, name) {
			return invalid("", "", "Unrecognized request argument supplied: %s", name)
		}
	}
	req.Model = body.Model
	reasons := openAIReasoning.MatchString(body.Model) && !openAIChatOnly.MatchString(body.Model)
	switch {
	case !openAIModel.MatchString(body.Model):
		return &openAIObjection{http.StatusNotFound, "", "model_not_found", fmt.Sprintf("The model `%s` does not exist or you do not have access to it.", body.Model)}
	case len(body.Messages) == 0:
		return invalid("messages", "empty_array", "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.")
	case reasons && body.MaxTokens != nil:
		return invalid("max_tokens", "unsupported_parameter", "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
	case reasons && body.Temperature != nil && *body.Temperature != 1:
		return invalid("temperature", "unsupported_value", "Unsupported value: 'temperature' does not support %v with this model. Only the default (1) value is supported.", *body.Temperature)
	case reasons && body.TopP != nil && *body.TopP != 1:
		return invalid("top_p", "unsupported_parameter", "Unsupported parameter: 'top_p' is not supported with this model.")
	case !reasons && body.Effort != nil:
		return invalid("reasoning_effort", "unsupported_parameter", "Unsupported parameter: 'reasoning_effort' is not supported with this model.")
	case body.MaxCompletion != nil && *body.MaxCompletion < 1:
		return invalid("max_completion_tokens", "integer_below_min_value", "Invalid 'max_completion_tokens': integer below minimum value.")
	case body.Stream:
		return invalid("stream", "unsupported_value", "The stand-in does not stream.")
	}
	for i, m := range body.Messages {
		if m.Content == "" {
			return invalid(fmt.Sprintf("messages.[%d].content", i), "", "Invalid value for 'content': expected a string, got null.")
		}
		switch m.Role {
		case "system", "developer":
			req.System += m.Content
		case "user":
			req.User += m.Content
		default:
			return invalid(fmt.Sprintf("messages[%d].role", i), "invalid_value", "Invalid value: '%s'.", m.Role)
		}
	}
	if err := req.format(body.ResponseFormat); err != nil {
		return invalid("response_format", "", "%s", err)
	}
	return nil
}

// format reads the response format.
func (r *OpenAIRequest) format(raw json.RawMessage) error {
	var format struct {
		Type   string `json:"type"`
		Schema *struct {
			Name   string          `json:"name"`
			Strict bool            `json:"strict"`
			Schema json.RawMessage `json:"schema"`
		} `json:"json_schema"`
	}
	if raw == nil {
		return nil
	}
	if err := json.Unmarshal(raw, &format); err != nil {
		return errors.New("invalid type for 'response_format'")
	}
	switch format.Type {
	case "text":
		return nil
	case "json_object":
		if !strings.Contains(strings.ToLower(r.System+r.User), "json") {
			return errors.New("'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'")
		}
		r.Fields = namedInWords(r.System)
		return nil
	case "json_schema":
	default:
		return fmt.Errorf("invalid value: '%s', supported values are: 'json_object', 'json_schema', and 'text'", format.Type)
	}
	switch s := format.Schema; {
	case s == nil || s.Schema == nil:
		return errors.New("missing required parameter: 'response_format.json_schema'")
	case !schemaName.MatchString(s.Name):
		return errors.New("invalid 'response_format.json_schema.name': string does not match pattern")
	case !s.Strict:
		return errors.New("the stand-in takes strict schemas only")
	}
	r.Schema = format.Schema.Schema
	fields, err := strict(r.Schema)
	r.Fields = fields
	return err
}

// strict returns the properties of a flat schema, in their order, or what keeps
// it from being a strict one.
func strict(schema json.RawMessage) ([]string, error) {
	var s struct {
		Type       string          `json:"type"`
		Properties json.RawMessage `json:"properties"`
		Required   []string        `json:"required"`
		Additional *bool           `json:"additionalProperties"`
	}
	if json.Unmarshal(schema, &s) != nil || s.Type != "object" {
		return nil, errors.New("schema must be a JSON Schema of 'type: \"object\"'")
	}
	if s.Additional == nil || *s.Additional {
		return nil, errors.New("in context=(), 'additionalProperties' is required to be supplied and to be false")
	}
	var properties map[string]struct {
		Type json.RawMessage `json:"type"`
	}
	if json.Unmarshal(s.Properties, &properties) != nil || len(properties) == 0 {
		return nil, errors.New("in context=(), object schema missing properties")
	}
	for name, p := range properties {
		if !slices.Contains(s.Required, name) {
			return nil, fmt.Errorf("in context=(), 'required' is required to be supplied and to be an array including every key in properties. Missing '%s'", name)
		}
		if p.Type == nil {
			return nil, fmt.Errorf("in context=('properties', '%s'), schema must have a 'type' key", name)
		}
	}
	if len(s.Required) != len(properties) {
		return nil, errors.New("in context=(), extra required key supplied")
	}
	return s.Required, nil
}

// inWords finds a key where the instructions list them, a line each.
var inWords = regexp.MustCompile(`(?m)^- "([^"]+)":`)

func namedInWords(system string) []string {
	var names []string
	for _, m := range inWords.FindAllStringSubmatch(system, -1) {
		names = append(names, m[1])
	}
	return names
}

// openAIError is an error's body as OpenAI writes it.
func openAIError(typ, param, code, text string) string {
	null := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	return encode(map[string]any{"error": map[string]any{"message": text, "type": typ, "param": null(param), "code": null(code)}})
}
