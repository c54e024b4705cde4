package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// arrivals is everything that the stand-ins received, in order.
type arrivals struct {
	mu   sync.Mutex
	all  []standin.Received
	more chan struct{} // closed, and made anew, at each arrival
}

func (a *arrivals) add(m standin.Received) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, m)
	close(a.more)
	a.more = make(chan struct{})
}

// from returns what arrived after the first n, and a channel that is closed
// when there is more.
func (a *arrivals) from(n int) ([]standin.Received, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all[n:len(a.all):len(a.all)], a.more
}

// devSample is one of the events that dev inserts.
type devSample struct {
	id        uuid.UUID
	typ       string
	channel   dispatch.Channel
	recipient string // as the stand-in sees it
	ref       string // occurs in nothing else that ever arrives
	payload   any
	committed time.Time // when COMMIT had returned
}

// newDevSamples returns samples of each channel that has a stand-in. Each
// has a reference of its own in it, also among those of earlier runs on the
// same data.
func newDevSamples(webhookURL string) []*devSample {
	object := func(kv ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = kv[i+1]
		}
		return m
	}
	var samples []*devSample
	add := func(ch dispatch.Channel, recipient string, payload func(ref string) map[string]any) {
		ref := rand.Text()[:8]
		samples = append(samples, &devSample{
			id: uuid.New(), typ: string(ch) + ".send", channel: ch, recipient: recipient, ref: ref, payload: payload(ref),
		})
	}
	sms := func(to, text string) {
		add(dispatch.ChannelSMS, to, func(ref string) map[string]any {
			return object("to", to, "body", fmt.Sprintf(text, ref))
		})
	}
	email := func(to, subject, text, html string) {
		add(dispatch.ChannelEmail, dispatch.Addr(to), func(ref string) map[string]any {
			m := object("to", to, "subject", fmt.Sprintf(subject, ref), "text", text)
			if html != "" {
				m["html"] = html
			}
			return m
		})
	}
	hook := func(path, event string) {
		add(dispatch.ChannelWebhook, path, func(ref string) map[string]any {
			return object("url", webhookURL+path, "body", object("event", event, "ref", ref))
		})
	}
	sms("+12025550101", "Visit %s: Ann is on her way")
	email("bob@example.com", "Visit %s is booked", "Ann will be with you on Friday at 10:00.", "")
	hook("/hooks/visits", "visit.booked")
	sms("+12025550102", "Visit %s: please leave the gate open")
	email("Cleo <cleo@example.com>", "Your quote %s", "The quote is ready.", "<p>The quote is <b>ready</b>.</p>")
	hook("/hooks/quotes", "quote.sent")
	return samples
}

// isArrivalOf reports whether m is s, under whatever id it came.
func (s *devSample) isArrivalOf(m standin.Received) bool {
	return m.Channel == s.channel && strings.Contains(m.Body, s.ref)
}

// insertSamples inserts them, each in a transaction of its own and after the
// one before has arrived, or has had its time.
func (d *dev) insertSamples(ctx context.Context) error {
	d.samples = newDevSamples(d.standins.webhook.URL())
	for _, s := range d.samples {
		payload, err := json.Marshal(s.payload)
		if err != nil {
			return err
		}
		before, _ := d.standins.from(0)
		err = pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `insert into outbox_events (id, type, payload) values ($1, $2, $3)`, s.id, s.typ, payload)
			return err
		})
		s.committed = time.Now()
		if err != nil {
			return fmt.Errorf("inserting a sample: %w", err)
		}
		if err := d.awaitArrival(ctx, s, len(before)); err != nil {
			return err
		}
	}
	return nil
}

// awaitArrival waits a few seconds for s among the arrivals after the first n.
func (d *dev) awaitArrival(ctx context.Context, s *devSample, n int) error {
	patience := time.NewTimer(devSampleTimeout / 10)
	defer patience.Stop()
	for {
		fresh, more := d.standins.from(n)
		for _, m := range fresh {
			if s.isArrivalOf(m) {
				return nil
			}
		}
		n += len(fresh)
		select {
		case <-more:
		case <-patience.C:
			return nil
		case <-d.ended:
			return errDevEnded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// devRow is what the ledger has of a sample.
type devRow struct {
	EventID    uuid.UUID
	ID         uuid.UUID
	Channel    string
	Recipient  string // masked
	State      string
	Attempts   int
	ProviderID string
	LastError  string
	Processed  bool // the event is
}

// ledger returns the deliveries of the samples.
func (d *dev) ledger(ctx context.Context) ([]devRow, error) {
	ids := make([]uuid.UUID, len(d.samples))
	for i, s := range d.samples {
		ids[i] = s.id
	}
	rows, err := d.pool.Query(ctx, `
		select d.event_id, d.id, d.channel, d.recipient, d.state, d.attempts,
		       coalesce(d.provider_id, ''), coalesce(d.last_error, ''),
		       exists (select from outbox_events as e where e.id = d.event_id and e.processed_at is not null)
		from outbox.deliveries as d
		where d.event_id = any ($1)
		order by d.created_at`, ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[devRow])
}

// errDevSamples says that not every sample arrived as it should. What is
// wrong has been printed.
var errDevSamples = errors.New("the samples did not arrive as they should")

// once delivers the samples and prints what became of them.
func (d *dev) once(ctx context.Context) error {
	d.screen.header(d)
	if err := d.insertSamples(ctx); err != nil {
		return err
	}
	if err := d.awaitTerminal(ctx); err != nil {
		return err
	}
	d.stopListener() // from here on nothing can arrive a second time
	rows, err := d.ledger(ctx)
	if err != nil {
		return err
	}
	got, _ := d.standins.from(0)
	d.screen.table(d.samples, rows, got)
	problems := judge(d.samples, rows, got)
	d.screen.verdict(d.samples, got, problems)
	if len(problems) > 0 {
		return errDevSamples
	}
	return nil
}

// awaitTerminal waits until every sample has deliveries and all of them are
// terminal, at most until the samples have had their time.
func (d *dev) awaitTerminal(ctx context.Context) error {
	deadline := time.Now().Add(devSampleTimeout)
	for time.Now().Before(deadline) {
		rows, err := d.ledger(ctx)
		if err != nil {
			return err
		}
		done := map[uuid.UUID]bool{}
		open := false
		for _, r := range rows {
			done[r.EventID] = true
			open = open || !dispatch.State(r.State).Terminal()
		}
		if !open && len(done) == len(d.samples) {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-d.ended:
			return errDevEnded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// judge returns what is wrong with the samples, a line for each that is not
// delivered according to the ledger, or did not arrive exactly once as that
// very delivery.
func judge(samples []*devSample, rows []devRow, got []standin.Received) []string {
	var problems []string
	for _, s := range samples {
		wrong := func(format string, args ...any) {
			problems = append(problems, fmt.Sprintf("%s to %s: ", s.typ, s.recipient)+fmt.Sprintf(format, args...))
		}
		var mine []devRow
		for _, r := range rows {
			if r.EventID == s.id {
				mine = append(mine, r)
			}
		}
		var arrived []standin.Received
		for _, m := range got {
			if s.isArrivalOf(m) {
				arrived = append(arrived, m)
			}
		}
		switch {
		case len(arrived) != 1:
			wrong("arrived %d times", len(arrived))
		case arrived[0].Recipient != s.recipient:
			wrong("arrived at %s", arrived[0].Recipient)
		}
		if len(mine) != 1 {
			wrong("has %d deliveries in the ledger", len(mine))
			continue
		}
		switch row := mine[0]; {
		case row.State != string(dispatch.Delivered):
			wrong("is %s in the ledger after %d attempts%s", row.State, row.Attempts, because(row.LastError))
		case len(arrived) == 1 && !row.arrivedAs(arrived[0]):
			wrong("arrived under an id that the ledger does not have")
		case !row.Processed:
			wrong("was delivered, and its event is not processed")
		}
	}
	return problems
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + oneLine(reason)
}

// arrivedAs reports whether m is this delivery, by its id.
func (r devRow) arrivedAs(m standin.Received) bool {
	if m.Channel == dispatch.ChannelSMS {
		return m.ID == r.ProviderID
	}
	return arrivalID(m) == r.ID.String()
}

// arrivalID is the id by which an arrival is found in the ledger: the
// delivery's own, except that an SMS has the one that Twilio gave it.
func arrivalID(m standin.Received) string {
	if m.Channel == dispatch.ChannelEmail {
		id, _, _ := strings.Cut(m.ID, "@")
		return id
	}
	return m.ID
}
