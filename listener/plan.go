package listener

import (
	"context"
	"fmt"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// plan says which deliveries e still needs.
func (l *Listener) plan(ctx context.Context, e *event) ([]*job, error) {
	if e.poison != "" {
		return l.planPoison(ctx, e)
	}
	msgs, err := l.messages(ctx, e)
	if err != nil {
		return nil, err
	}
	var have []known
	if e.again {
		if have, err = l.store.adopt(ctx, e); err != nil {
			return nil, err
		}
	}
	var jobs []*job
	for _, m := range msgs {
		k := match(&have, e, &m)
		switch {
		case k == nil:
			jobs = append(jobs, e.newJob(m, 0))
		case k.state == dispatch.Delivered:
			// arrived already
		case k.state.Terminal():
			// the event was opened again: a new delivery, with an id of its own
			jobs = append(jobs, e.newJob(m, k.generation+1))
		default:
			jobs = append(jobs, e.resume(k, m))
		}
	}
	// Deliveries that the routes of today would not plan, but those of
	// yesterday began.
	for _, k := range have {
		if !k.state.Terminal() {
			if k.terms != nil && k.terms.Ordering != "" {
				k.terms.Freeze = true // it stands in its line, and goes on from there
			}
			jobs = append(jobs, e.resume(&k, dispatch.Message{Route: k.route, Step: k.step, Channel: k.channel, Content: k.content, Terms: k.terms}))
		}
	}
	return jobs, nil
}

// messages plans e, bringing its payload first where that stayed behind.
func (l *Listener) messages(ctx context.Context, e *event) ([]dispatch.Message, error) {
	if e.Payload == nil {
		text, size, err := l.store.loadPayload(ctx, e.seq)
		if err != nil {
			return nil, err
		}
		e.Payload, e.Printed = text, true
		if text == nil {
			return refuse(fmt.Sprintf("payload of %d bytes is larger than OUTBOX_MAX_PAYLOAD_BYTES=%d", size, l.store.payloadLimit())), nil
		}
	} else if len(e.Payload) > l.store.payloadLimit() {
		return refuse(fmt.Sprintf("payload of %d bytes is larger than OUTBOX_MAX_PAYLOAD_BYTES=%d", len(e.Payload), l.store.payloadLimit())), nil
	}
	return l.cfg.Dispatcher.Plan(ctx, e.Event)
}

func refuse(why string) []dispatch.Message {
	return []dispatch.Message{{Refused: why}}
}

// match finds the newest delivery in have that m stands for and takes it, and
// its older generations, out of have.
func match(have *[]known, e *event, m *dispatch.Message) *known {
	var newest *known
	own := lineage{event: e.ID, message: m}
	rest := (*have)[:0:0]
	for _, k := range *have {
		if !own.standsFor(k.id, k.generation) {
			rest = append(rest, k)
			continue
		}
		if newest == nil || k.generation > newest.generation {
			newest = &k
		}
	}
	*have = rest
	return newest
}

func (e *event) newJob(m dispatch.Message, generation int) *job {
	return &job{
		Delivery: dispatch.Delivery{
			ID: deliveryID(e.seq, e.ID, &m, generation), EventID: e.ID, Type: e.Type, Date: e.CreatedAt, Message: m,
		},
		seq: e.seq, generation: generation, lease: e.lease, event: e,
	}
}

// resume goes on with a delivery that the ledger has: with the bytes that it
// was frozen with, until the deadline that it had, and at the time that it was put off
// to. What does not hold its event back does not either from here on, which only a
// freeze can tell.
func (e *event) resume(k *known, m dispatch.Message) *job {
	j := e.newJob(m, k.generation)
	j.ID = k.id
	j.known, j.state, j.attempts, j.found = true, k.state, k.attempts, k.found
	j.lastError, j.expired = k.lastError, k.expired
	if k.content != nil {
		j.Content = k.content
		j.Skip, j.Refused = "", ""
	}
	terms := *j.terms()
	terms.InsteadOf, terms.Optional = "", !k.required // as it is on record
	if k.terms != nil {
		terms.InsteadOf, j.line = k.terms.InsteadOf, k.terms.Ordering
	}
	switch {
	case k.at != nil:
		terms.At = *k.at
	case k.state == dispatch.Held:
		terms.At = time.Time{}
	}
	terms.Freeze = terms.Freeze || k.at != nil || !k.required
	if j.Terms != nil || terms.InsteadOf != "" || terms.Freeze {
		j.Terms = &terms
	}
	return j
}
