package listener

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// A failure that goes on is told after one second again, then after two, and so
// on up to farthest: while the database is away for an hour, a dozen parts of a
// listener fail once a second each, and all of them by the same cause.
const farthest = 16 * time.Second

// sparse logs at most one line a second for each message, and fewer for a failure
// that goes on; what it swallowed is counted in the next line.
type sparse struct {
	log *slog.Logger

	mu   sync.Mutex
	said map[string]*said
}

// said is what became of one message.
type said struct {
	last time.Time
	gap  time.Duration // until the next line
	held int           // swallowed since last
}

func newSparse(log *slog.Logger) *sparse {
	return &sparse{log: log, said: map[string]*said{}}
}

// allow reports whether a line may be written for a cause, and how many were
// swallowed since the last one. The gap to the next one grows if fading.
func (s *sparse) allow(cause string, fading bool) (repeated int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.said[cause]
	if c == nil {
		c = &said{}
		s.said[cause] = c
	}
	now := time.Now()
	since := now.Sub(c.last)
	if since < c.gap {
		c.held++
		return 0, false
	}
	if fading && since < 2*c.gap {
		c.gap = min(2*c.gap, farthest)
	} else {
		c.gap = time.Second
	}
	repeated = c.held
	c.last, c.held = now, 0
	return repeated, true
}

// say writes a line. msg is the cause by which lines are counted.
func (s *sparse) say(level slog.Level, msg string, attrs ...any) {
	s.write(level, msg, false, attrs)
}

// warn logs a failure; while it goes on the lines become fewer.
func (s *sparse) warn(msg string, err error, more ...any) {
	attrs := append([]any{"error", err}, more...)
	if m := mend(err); m != "" {
		attrs = append(attrs, "mend", m)
	}
	s.write(slog.LevelWarn, msg, true, attrs)
}

func (s *sparse) write(level slog.Level, msg string, fading bool, attrs []any) {
	n, ok := s.allow(msg, fading)
	if !ok {
		return
	}
	if n > 0 {
		attrs = append(attrs, "repeated", n)
	}
	s.log.Log(context.Background(), level, msg, attrs...)
}

// mendable is an error with what to do about it.
type mendable struct {
	error
	how string
}

func (e *mendable) Unwrap() error { return e.error }

// Mend implements the way by which mend asks an error.
func (e *mendable) Mend() string { return e.how }

// mend says what to do about errors whose text does not. An error may know it, and
// then what is behind it is not asked.
func mend(err error) string {
	if m, ok := errors.AsType[interface {
		error
		Mend() string
	}](err); ok {
		return m.Mend()
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return ""
	}
	switch pg.Code {
	case "26000", "42P05": // prepared statement missing, or there already
		return "behind a transaction pooler add default_query_exec_mode=cache_describe to DATABASE_URL; see docs/pgbouncer.md"
	case "42P01", "42703", "42883", "3F000": // table, column, function or schema missing
		return "run `listener migrate`"
	case "42501": // no right to
		return "run `listener migrate --grant ROLE` as the owner"
	}
	return ""
}

// logAttempt writes one wide line for what became of j. Payloads are not
// logged and recipients are masked.
func logAttempt(log *slog.Logger, j *job) {
	o := j.outcome
	level := slog.LevelInfo
	switch {
	case o.State == dispatch.Held && j.withheld: // as it was asked for
		level = slog.LevelWarn
	case j.idle, j.hushed && (o.State == dispatch.Retry || o.State == dispatch.Uncertain):
		level = slog.LevelDebug
	case o.State == dispatch.Dead || o.State == dispatch.Held:
		level = slog.LevelError
	case o.State == dispatch.Retry || o.State == dispatch.Uncertain:
		level = slog.LevelWarn
	case j.Channel == dispatch.ChannelDiscard:
		level = slog.LevelDebug
	}
	if !log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("event", j.EventID.String()),
		slog.String("type", j.Type),
		slog.String("delivery", j.ID.String()),
		slog.String("channel", string(j.Channel)),
		slog.Int("attempt", o.Attempts),
		slog.String("outcome", string(o.State)),
		slog.Duration("took", j.took),
	}
	if r := dispatch.Mask(j.Channel, j.Recipient); r != "" {
		attrs = append(attrs, slog.String("to", r))
	}
	if j.redirected {
		attrs = append(attrs, slog.Bool("redirected", true))
	}
	if o.Receipt.ProviderID != "" {
		attrs = append(attrs, slog.String("provider_id", o.Receipt.ProviderID))
	}
	if o.Receipt.Status != 0 {
		attrs = append(attrs, slog.Int("status", o.Receipt.Status))
	}
	if !o.State.Terminal() && o.State != dispatch.Held {
		attrs = append(attrs, slog.Duration("next", j.wait))
	}
	if msg := outcomeText(o); msg != "" {
		attrs = append(attrs, slog.String("reason", msg))
	}
	if j.repeated > 0 {
		attrs = append(attrs, slog.Int("repeated", j.repeated))
	}
	what := "attempt"
	if j.looked != "" {
		what = "look"
		attrs = append(attrs, slog.String("verdict", string(j.looked)))
	}
	log.LogAttrs(context.Background(), level, what, attrs...)
}

// batchLog sums up what was recorded and writes one line for it when the
// listener comes to rest, or once a second while it does not.
type batchLog struct {
	log *slog.Logger

	mu    sync.Mutex
	stats Stats
	since time.Time
	last  time.Time // line of nothing but errors
}

// add counts an event that was begun at that moment.
func (b *batchLog) add(c class, begun time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stats.Total == 0 || begun.Before(b.since) {
		b.since = begun
	}
	b.stats.add(c)
}

// end writes what is left to be told.
func (b *batchLog) end() {
	b.mu.Lock()
	b.last = time.Time{}
	b.mu.Unlock()
	b.flush(true)
}

// flush writes the line if there is one to write and, unless atRest, it is
// due.
func (b *batchLog) flush(atRest bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stats.Total == 0 || !atRest && time.Since(b.since) < time.Second {
		return
	}
	// While a provider is away, each retry by itself is a batch: they are told once
	// a second, the last of them with what comes next.
	if b.stats.Errors == b.stats.Total {
		if time.Since(b.last) < time.Second {
			return
		}
		b.last = time.Now()
	}
	b.log.Info("batch", "total", b.stats.Total, "processed", b.stats.Processed,
		"skipped", b.stats.Skipped, "errors", b.stats.Errors, "took", time.Since(b.since))
	b.stats = Stats{}
}
