package openai

import (
	"context"
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Ask is what Write is asked for: all the fields of one message, at once.
type Ask struct {
	Model        string // "" means the configured one
	Instructions string // how to write: tone, language, what to mention
	Facts        []Fact // all that the model is told of the event, in this order
	Fields       []Field

	// Budget bounds everything, both tries included, from the call on. 0 means
	// DefaultBudget.
	Budget time.Duration
}

// DefaultBudget is how long a message waits for its words.
const DefaultBudget = 5 * time.Second

// Fact is one thing that the model may use. Its value is data: the model is
// told not to do what it says.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Field is one text to write, and what it has to keep; see Rules.
type Field struct {
	Name        string   // a key of the answer
	Describe    string   // what it is for, for the model; "" leaves it at the name
	MaxChars    int      // characters; 0 means no limit
	MaxSegments int      // segments as an SMS; 0 means no limit
	MustContain []string // each stands in it, character for character
	MustNot     []string // words and phrases that do not, in whatever case
	SingleLine  bool     // no line break in it
}

// Words are what became of a Field.
type Words struct {
	Text     string // as it may be used; "" with a Fallback
	Fallback string // why the model's words are not used, without any of the content; "" where they are
}

// Tries of one Write.
const (
	shortPause = 100 * time.Millisecond // before the second, where the server asked for none
	leastTry   = 250 * time.Millisecond // none is begun with less time than this
)

// Write asks the model for all fields at once and returns what became of each.
// It never fails, and never takes longer than the budget: a field has words
// that keep its rules, or the reason for which its template is to be used.
//
// A second request follows only where the first one's failure may pass: a rate
// limit whose wait fits into the budget, a server error, no connection, an
// answer that cannot be read, or a server that does not know all of the
// request. While the server fails again and again, it is not asked at all.
func (c *Client) Write(ctx context.Context, a Ask) (words map[string]Words) {
	if c == nil {
		return a.fallback("not configured")
	}
	if len(a.Fields) == 0 {
		return map[string]Words{}
	}
	budget := a.Budget
	if budget <= 0 {
		budget = DefaultBudget
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	if ctx.Err() != nil { // says nothing about the server
		return a.fallback(interrupted)
	}
	defer func() {
		if recover() != nil { // what is read was written by others
			words = a.fallback(brokenAnswer)
		}
	}()

	rules := RulesOf(a)
	r, err := c.circuit.Execute(func() (*reply, error) {
		r, f := c.tries(ctx, a.question(c.model))
		if f != nil {
			return nil, f
		}
		return r, nil
	})
	if err != nil {
		if f, ok := errors.AsType[*failure](err); ok {
			return a.fallback(f.reason)
		}
		return a.fallback("openai is failing") // by the circuit
	}
	words = make(map[string]Words, len(a.Fields))
	for _, f := range a.Fields {
		words[f.Name] = rules.Check(f, r.texts[f.Name])
	}
	return words
}

// fallback gives every field the same reason.
func (a Ask) fallback(reason string) map[string]Words {
	words := make(map[string]Words, len(a.Fields))
	for _, f := range a.Fields {
		words[f.Name] = Words{Fallback: reason}
	}
	return words
}

// tries asks once, and once more where that may help.
func (c *Client) tries(ctx context.Context, q question) (*reply, *failure) {
	r, first := c.ask(ctx, q, false)
	switch {
	case first == nil:
		return r, nil
	case first.simpler:
		if !pause(ctx, 0) {
			return nil, first
		}
	case !first.passes || !pause(ctx, max(first.wait, first.pause)):
		return nil, first
	}
	r, second := c.ask(ctx, q, first.simpler)
	return r, second
}

// pause waits, and reports whether there is time for a try after it. Where
// there would be none, it does not wait.
func pause(ctx context.Context, wait time.Duration) bool {
	if end, ok := ctx.Deadline(); ok && time.Until(end) < wait+leastTry {
		return false
	}
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// The circuit: after so many failures in a row nothing is asked for a while,
// and then one Write tries. Without it an outage would cost every message its
// whole budget.
const (
	circuitFailures = 5
	circuitPause    = 30 * time.Second
)

// newCircuit counts what says that the server does not answer, or that nothing
// is left to pay it with. Only words that came close the circuit again; what is
// neither, such as a rate limit, does not count.
func newCircuit() *gobreaker.CircuitBreaker[*reply] {
	return gobreaker.NewCircuitBreaker[*reply](gobreaker.Settings{
		Timeout:     circuitPause,
		ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= circuitFailures },
		IsExcluded: func(err error) bool {
			f, ok := errors.AsType[*failure](err)
			return ok && !f.failing
		},
	})
}
