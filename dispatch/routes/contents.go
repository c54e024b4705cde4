package routes

import (
	"slices"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/query"
)

// Lookup is a query of a route.
type Lookup struct {
	Route, Name string
	Query       *query.Query
	node        *node
}

// At says where a place within the query stands in the file.
func (l Lookup) At(line, column int) Place { return placeIn(l.node, line, column) }

// Statement is the statement of an sql step.
type Statement struct {
	Route, Step string
	Query       *query.Query
	node        *node
}

// At says where a place within the statement stands in the file.
func (s Statement) At(line, column int) Place { return placeIn(s.node, line, column) }

func placeIn(n *node, line, column int) Place {
	if line < 1 {
		return Place{n.line, n.column}
	}
	l, c := n.within(line, column)
	return Place{l, c}
}

// ChannelUse is a step with the channel that it delivers on.
type ChannelUse struct {
	Route, Step string
	Channel     dispatch.Channel
	Credential  string // of an http step; "" where it has none
	Exposed     bool   // the event has a say in which host gets the credential, and the credential names none
	Place
}

// Lookups are the queries of all routes, in the order of the file.
func (r *Routes) Lookups() []Lookup { return r.lookups }

// Statements are the statements of all sql steps, in the order of the file.
func (r *Routes) Statements() []Statement { return r.statements }

// Channels are the channels of all steps, in the order of the file.
func (r *Routes) Channels() []ChannelUse { return r.channels }

// Ordered are the types of events of routes with an ordering_key.
func (r *Routes) Ordered() []string { return r.ordered }

// Uses are the columns that templates, expressions and parameters read.
func (r *Routes) Uses() []Use { return r.uses }

// UsesCopy reports whether a model is asked for words.
func (r *Routes) UsesCopy() bool {
	return slices.ContainsFunc(r.list, func(c *compiledRoute) bool { return c.copy != nil })
}

// LookupRole is the role that lookups run as, "" for that of the connection, and
// how long one may take, 0 for query.DefaultTimeout.
func (r *Routes) LookupRole() (role string, timeout time.Duration) {
	return r.file.Lookups.Role.value, r.file.Lookups.Timeout.of
}

// SQLRole is the role that sql steps run as; "" for that of the connection.
func (r *Routes) SQLRole() string { return r.file.Lookups.SQLRole.value }

// Summary is how many routes and steps there are, for people.
func (r *Routes) Summary() string {
	steps := 0
	for _, c := range r.list {
		steps += len(c.steps)
	}
	return counted(len(r.list), "route") + ", " + counted(steps, "step")
}
