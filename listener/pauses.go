package listener

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// pausedFor is when a delivery that is paused is looked at again; whoever ends
// the pause makes it due before.
const pausedFor = 5 * time.Minute

// pauses are what people have paused, as the last sweep saw it.
type pauses []onPause

// onPause is one of them: a channel, or a type of events, or with .* all those that
// begin so.
type onPause struct{ kind, pattern string }

// PausedBy is what the ledger has as the reason of a delivery that a pause keeps
// back. kind is "type" or "channel".
func PausedBy(kind, pattern string) string { return "paused: " + kind + " " + pattern }

// hold says which pause keeps deliveries of this type and channel back; "" when
// none does.
func (p pauses) hold(typ string, ch dispatch.Channel) (why string) {
	for _, one := range p {
		name, held := typ, false
		if one.kind == "channel" {
			name = string(ch)
		}
		if prefix, many := strings.CutSuffix(one.pattern, "*"); many && one.kind == "type" {
			held = strings.HasPrefix(name, prefix)
		} else {
			held = name == one.pattern
		}
		if held {
			return PausedBy(one.kind, one.pattern)
		}
	}
	return ""
}

// has reports whether one of p is the reason why.
func (p pauses) has(why string) bool {
	return slices.ContainsFunc(p, func(one onPause) bool { return PausedBy(one.kind, one.pattern) == why })
}

// without returns the reasons of those in p that are not in now.
func (p pauses) without(now pauses) (reasons []string) {
	for _, one := range p {
		if !slices.Contains(now, one) {
			reasons = append(reasons, PausedBy(one.kind, one.pattern))
		}
	}
	return reasons
}

// hearsay is what a listener has been told about pauses.
type hearsay struct {
	mu   sync.Mutex
	now  atomic.Pointer[pauses]
	ends endings
}

// endings are the reasons of deliveries to wait that are none any more. Between
// the end of a reason and when we hear of it, we may have put off what was due for that
// very reason; so what we hear of as ended we make due ourselves, and once more the next
// time, for records that were under way.
type endings struct {
	mu     sync.Mutex
	before []string // of the last time
}

// note returns what is to be made due, now that these ended.
func (e *endings) note(ended []string) (due []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	due = append(slices.Clone(ended), e.before...)
	e.before = slices.Clone(ended)
	return due
}

// again has what was put off for reasons, which have ended, made due once more the next
// time.
func (e *endings) again(reasons ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range reasons {
		if !slices.Contains(e.before, r) {
			e.before = append(e.before, r)
		}
	}
}

// What is wrong where makeDue fails.
const (
	brakeOver = "what waited for a destination is not due before its time"
	pauseOver = "what a pause kept back is not due before its time"
)

// makeDue makes due what was put off for one of those that ended, and for what else e
// has. Where that fails, e has them until the next time; failing says what is wrong then.
func (l *Listener) makeDue(ctx context.Context, e *endings, ended []string, failing string) {
	reasons := e.note(ended)
	if len(reasons) == 0 {
		return
	}
	n, err := l.store.resume(ctx, reasons)
	if err != nil {
		l.sparse.warn(failing, err)
		e.again(reasons...)
	}
	if n > 0 {
		l.noteDue(0)
	}
}

// heard notes which pauses a sweep saw.
func (l *Listener) heard(ctx context.Context, now pauses) {
	h := &l.paused
	h.mu.Lock()
	ended := h.now.Swap(&now).without(now)
	h.mu.Unlock()
	l.makeDue(ctx, &h.ends, ended, pauseOver)
}

// ResumeBatch is how many deliveries are made due in one transaction when a pause
// ends.
const ResumeBatch = 2000

// resume makes due what was put off for one of reasons, and counts it.
func (s *store) resume(ctx context.Context, reasons []string) (total int64, err error) {
	for n := int64(ResumeBatch); n == ResumeBatch && err == nil; total += n {
		n = 0
		err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
			b.Queue(sqlResumeDeliveries, reasons, ResumeBatch).Exec(func(tag pgconn.CommandTag) error {
				n = tag.RowsAffected()
				return nil
			})
		})
	}
	return total, err
}

// readHolds reads what next_due.sql has of what is paused or braked.
func readHolds(text []byte) (paused pauses, braked []onBrake, err error) {
	var holds []struct {
		Kind, Pattern string
		Until, Probe  float64 // seconds
	}
	if err := json.Unmarshal(text, &holds); err != nil {
		return nil, nil, fmt.Errorf("what is held back: %w", err)
	}
	for _, h := range holds {
		if h.Kind == "brake" {
			braked = append(braked, onBrake{h.Pattern, fromSeconds(h.Until), fromSeconds(h.Probe)})
		} else {
			paused = append(paused, onPause{h.Kind, h.Pattern})
		}
	}
	return paused, braked, nil
}

// holdsBack reports whether j is paused, and has ended it then: it stays as it is,
// uncounted.
func (l *Listener) holdsBack(j *job) bool {
	why := l.paused.now.Load().hold(j.Type, j.Channel)
	if why == "" {
		return false
	}
	j.paused = true
	o := j.notBegun(jittered(pausedFor))
	o.Reason = why
	l.finish(j, o)
	return true
}
