// Package sink has the senders of the channels log and discard, for
// development and for load tests.
package sink

import (
	"context"
	"log/slog"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Log takes every delivery and writes one line about it, never its content.
type Log struct {
	logger *slog.Logger
}

// NewLog returns the sender of dispatch.ChannelLog. A nil logger means
// slog.Default().
func NewLog(logger *slog.Logger) *Log {
	if logger == nil {
		logger = slog.Default()
	}
	return &Log{logger: logger}
}

// Send implements dispatch.Sender. Its only error is that of a ctx that has
// ended.
func (l *Log) Send(ctx context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return dispatch.Receipt{}, notBegun(dispatch.ChannelLog, err)
	}
	l.logger.LogAttrs(ctx, slog.LevelInfo, "log.send",
		slog.String("event", d.EventID.String()),
		slog.String("type", d.Type),
		slog.String("delivery", d.ID.String()),
		slog.Int("attempt", d.Attempt),
		slog.Int("bytes", len(d.Content)))
	return dispatch.Receipt{}, nil
}

// Discard takes every delivery and does nothing with it.
type Discard struct{}

// NewDiscard returns the sender of dispatch.ChannelDiscard.
func NewDiscard() Discard { return Discard{} }

// Send implements dispatch.Sender. Its only error is that of a ctx that has
// ended.
func (Discard) Send(ctx context.Context, _ *dispatch.Delivery) (dispatch.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return dispatch.Receipt{}, notBegun(dispatch.ChannelDiscard, err)
	}
	return dispatch.Receipt{}, nil
}

var _ dispatch.Instant = Discard{}

// Instant implements dispatch.Instant.
func (Discard) Instant() {}

func notBegun(ch dispatch.Channel, err error) error {
	return &dispatch.Error{Channel: ch, Kind: dispatch.Down, Err: err}
}
