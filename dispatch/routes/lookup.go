package routes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/outbox-listener/outbox-listener/dispatch/query"
	"github.com/outbox-listener/outbox-listener/dispatch/render"
)

// lookUp runs the lookups of the route, one after the other.
func (rt *routeRun) lookUp(ctx context.Context, m Moment) error {
	for _, l := range rt.route.lookups {
		args, missing, err := (&rendering{route: rt, scope: rt.scope}).arguments(l.args, l.kind == "one")
		if err != nil {
			rt.refused = fmt.Sprintf("lookup %s: %v", l.Name, err)
			return nil
		}
		if missing != "" {
			rt.skip = missing
			return nil
		}
		most := 1
		if l.kind == "many" {
			most = maxRows
		}
		found, err := m.Rows(ctx, l.Lookup, args, most)
		_, bad := errors.AsType[*query.BadValue](err)
		_, large := errors.AsType[*query.TooLarge](err)
		if bad || large {
			rt.refused = fmt.Sprintf("lookup %s: %v", l.Name, err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("route %s, lookup %s: %w", rt.route.name, l.Name, err)
		}
		value, err := l.value(found, most)
		if err != nil {
			rt.refused = fmt.Sprintf("lookup %s: %v", l.Name, err)
			return nil
		}
		if value == nil {
			rt.skip = fmt.Sprintf("lookup %s found no row", l.Name)
			return nil
		}
		rt.scope = rt.scope.with(l.Name, value)
		if l.kind != "many" {
			rt.scope.isRow[l.Name] = true
		}
	}
	return nil
}

// value is what the scope has of rows; nil where a row is needed and missing.
func (l *compiledLookup) value(found []json.RawMessage, most int) (any, error) {
	if len(found) > most {
		if l.kind == "many" {
			return nil, fmt.Errorf("it found more than %d rows; add a limit", most)
		}
		return nil, fmt.Errorf("it found more than one row; add what tells them apart, or an order by and limit 1")
	}
	list := make([]any, len(found))
	for i, raw := range found {
		v, err := render.Decode(raw)
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	switch {
	case l.kind == "many":
		return list, nil
	case len(list) == 1:
		return list[0], nil
	case l.kind == "optional":
		return render.Null{}, nil
	}
	return nil, nil
}
