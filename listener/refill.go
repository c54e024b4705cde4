package listener

import (
	"context"
	"errors"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// empty reports whether j was replayed without its content, which is not kept
// of what was delivered or skipped.
func (j *job) empty() bool {
	return j.event == nil && j.generation > 0 && j.attempts == 0 && j.state == dispatch.Ready && j.Content == nil && !j.waiting()
}

// refill plans the event of j and gives j what that says of it today. It reports
// whether j goes on; where not, it has ended j.
func (l *Listener) refill(ctx context.Context, j *job) bool {
	gone := func(why string) bool {
		l.finish(j, dispatch.Outcome{State: dispatch.Skipped, Reason: "not replayed: " + why, Attempts: j.attempts})
		return false
	}
	again := func(err error) bool {
		l.sparse.warn("replayed delivery not planned; trying again", err)
		l.finish(j, j.notBegun(renderAgain))
		return false
	}
	e := &event{Event: dispatch.Event{ID: j.EventID, Type: j.Type, CreatedAt: j.Date}, seq: j.seq}
	msgs, err := l.messages(ctx, e)
	switch {
	case errors.Is(err, errNoEvent):
		return gone("its event was deleted, and its content is not kept")
	case err != nil:
		return again(err)
	}
	for _, m := range msgs {
		own := lineage{event: j.EventID, message: &m}
		if !own.standsFor(j.ID, j.generation) {
			continue
		}
		if m.Channel != j.Channel {
			return gone("its route sends it by " + string(m.Channel) + " today")
		}
		j.Message = m
		j.byItself()
		if o, settled := j.settled(); settled {
			l.finish(j, o)
			return false
		}
		if m.Content == nil {
			return true // a handler's, or rendered later
		}
		kept, err := l.store.freezeDelivery(ctx, j)
		switch {
		case err != nil:
			return again(err)
		case !kept:
			l.handBack(j)
			return false
		}
		return true
	}
	return gone("its event does not become this delivery today")
}
