package listener

import (
	"context"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// outside is what time, people and the application do. It reports whether there was
// something to do it to.
func (p *play) outside(ctx context.Context, m move) (did bool, err error) {
	exec := func(sql string, args ...any) error {
		_, err := p.db.Pool.Exec(ctx, sql, args...)
		return err
	}
	ev, hasEvent := pick(those(p.ref.ordered(), func(e *refEvent) bool {
		switch m.what {
		case "expire event":
			return p.ref.class(e.lease) == "soon" || p.ref.class(e.lease) == "later"
		case "reopen":
			return e.processed
		case "give up":
			return !e.processed && !e.lease.Equal(forever)
		}
		return true
	}), m.a)
	row, hasRow := pick(those(p.refRows(), func(r *refRow) bool {
		if m.what == "expire delivery" {
			return p.ref.class(r.due) == "soon" || p.ref.class(r.due) == "later"
		}
		return r.state == dispatch.Held
	}), m.a)
	switch {
	case m.what == "expire event" && hasEvent:
		ev.lease = p.ref.now()
		return true, exec(`update outbox_events set lease_until = clock_timestamp() - interval '1 second' where id = $1`, ev.id)
	case m.what == "expire delivery" && hasRow:
		row.due = p.ref.now()
		return true, exec(`update outbox.deliveries set due_at = clock_timestamp() - interval '1 second' where id = $1`, row.id)
	case m.what == "give up" && hasEvent:
		ev.processed = true
		return true, exec(`update outbox_events set processed_at = now() where id = $1 and processed_at is null and lease_until is distinct from 'infinity'`, ev.id)
	case m.what == "reopen" && hasEvent:
		var place int64
		if err := exec(`update outbox_events set processed_at = null where id = $1`, ev.id); err != nil {
			return true, err
		}
		if err := p.db.Pool.QueryRow(ctx, `select seq from outbox_events where id = $1`, ev.id).Scan(&place); err != nil {
			return true, err
		}
		p.ref.reopen(ev, place)
		return true, nil
	case m.what == "release held" && hasRow:
		row.state, row.due = dispatch.Ready, p.ref.now()
		return true, exec(`update outbox.deliveries set state = 'ready', due_at = clock_timestamp() where id = $1 and state = 'held'`, row.id)
	case m.what == "cancel" && hasRow:
		row.state, row.due = dispatch.Canceled, p.ref.now()
		return true, exec(`update outbox.deliveries set state = 'canceled', finished_at = clock_timestamp(), due_at = clock_timestamp() where id = $1 and state = 'held'`, row.id)
	case m.what == "delete" && hasEvent && m.b%4 == 0:
		delete(p.ref.events, ev.id)
		p.gone++
		return true, exec(`delete from outbox_events where id = $1`, ev.id)
	}
	return false, nil
}
