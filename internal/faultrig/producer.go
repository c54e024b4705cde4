//go:build unix

package faultrig

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Fate is what a producer knows about a transaction.
type Fate string

// The fates.
const (
	Committed  Fate = "committed"
	RolledBack Fate = "rolled back"
	Unclear    Fate = "commit sent, answer lost"
)

// Produced is one line of the producers' ledger: an event, and what became of
// the transaction that inserted it.
type Produced struct {
	Event
	Fate Fate
	Sent time.Time // when the commit or the rollback was sent; nobody can see the event before a commit
	Done time.Time // when its answer was there
}

// Insert is one statement of a producer.
type Insert struct {
	At   time.Time // when it was sent
	Took time.Duration
	Err  string // "" where it went well
}

// producers insert what a plan has.
type producers struct {
	url     string // of the database
	webhook string // where webhooks go

	mu      sync.Mutex
	ledger  []Produced
	inserts []Insert
}

// producersAtOnce is how many connections they have.
const producersAtOnce = 6

// run makes the transactions of a plan, each at its time or as soon as a
// connection is free after that. One that fails before its commit is made again: the
// server goes down in between.
func (p *producers) run(ctx context.Context, begun time.Time, plan []Transaction) error {
	queue := make(chan Transaction)
	errs := make(chan error, producersAtOnce)
	var wg sync.WaitGroup
	for range producersAtOnce {
		wg.Go(func() {
			w := &producer{all: p}
			defer w.close()
			for t := range queue {
				if err := w.insist(ctx, t); err != nil {
					errs <- err
					for range queue { // nobody may be left waiting
					}
					return
				}
			}
		})
	}
	inOrder := slices.SortedFunc(slices.Values(plan), func(a, b Transaction) int { return int(a.Begin - b.Begin) })
	for _, t := range inOrder {
		sleep(ctx, time.Until(begun.Add(t.Begin)))
		queue <- t
	}
	close(queue)
	wg.Wait()
	close(errs)
	return <-errs
}

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// producer is one connection.
type producer struct {
	all  *producers
	conn *pgx.Conn
}

func (p *producer) close() {
	if p.conn != nil {
		_ = p.conn.Close(context.Background()) // it may be broken
		p.conn = nil
	}
}

// insist makes t until its end is known, or its commit was sent.
func (p *producer) insist(ctx context.Context, t Transaction) error {
	var err error
	for range 200 {
		var sent time.Time
		var fate Fate
		if fate, sent, err = p.try(ctx, t); fate != "" {
			done := time.Now()
			p.all.mu.Lock()
			for _, e := range t.Events {
				p.all.ledger = append(p.all.ledger, Produced{Event: e, Fate: fate, Sent: sent, Done: done})
			}
			p.all.mu.Unlock()
			return nil
		}
		p.close()
		if ctx.Err() != nil {
			break
		}
		sleep(ctx, 50*time.Millisecond)
	}
	return fmt.Errorf("a producer cannot insert: %w", err)
}

// try makes t once. An empty fate means that nothing of it can be in the
// database.
func (p *producer) try(ctx context.Context, t Transaction) (fate Fate, sent time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if p.conn == nil {
		if p.conn, err = pgx.Connect(ctx, p.all.url); err != nil {
			return "", sent, err
		}
	}
	tx, err := p.conn.Begin(ctx)
	if err != nil {
		return "", sent, err
	}
	for _, e := range t.Events {
		payload, err := p.all.payload(e)
		if err != nil {
			return "", sent, err
		}
		one := Insert{At: time.Now()}
		_, err = tx.Exec(ctx, `insert into outbox_events (id, type, payload) values ($1, $2, $3)`, e.ID, e.Type, payload)
		one.Took = time.Since(one.At)
		if err != nil {
			one.Err = err.Error()
		}
		p.all.mu.Lock()
		p.all.inserts = append(p.all.inserts, one)
		p.all.mu.Unlock()
		if err != nil {
			return "", sent, err
		}
	}
	sleep(ctx, t.Hold)
	sent = time.Now()
	if t.Rollback {
		_ = tx.Rollback(ctx) // without an answer it is rolled back too
		return RolledBack, sent, nil
	}
	if err := tx.Commit(ctx); err != nil {
		p.close()
		return Unclear, sent, nil
	}
	return Committed, sent, nil
}

// payload is that of an event, whose id stands in what is sent.
func (p *producers) payload(e Event) (json.RawMessage, error) {
	mark := "#" + e.ID.String() + "#"
	switch e.Type {
	case heldHook, onceHook, heldMail, onceMail, request:
		return json.RawMessage(`{}`), nil
	case "sms.send":
		return json.Marshal(map[string]string{"to": "+15005550009", "body": "event " + mark})
	case "order.placed", neverTwice, resendMissing:
		return json.RawMessage(`{}`), nil
	case stepTaken:
		return json.Marshal(map[string]string{"line": e.line()})
	case "email.send":
		return json.Marshal(map[string]string{"to": "ann@example.com", "subject": "an event", "text": "event\n" + mark + "\n"})
	}
	return json.Marshal(map[string]any{"url": "http://" + p.webhook + "/hook?token=" + urlCanary, "body": map[string]string{"event": mark}})
}
