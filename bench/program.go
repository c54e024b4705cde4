package bench

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	nowhere "github.com/outbox-listener/outbox-listener/dispatch/sink"
	"github.com/outbox-listener/outbox-listener/listener"
)

// A program is a listener in this process, with a channel that the listener's
// own program does not have.
type program struct {
	pool  *pgxpool.Pool
	end   context.CancelFunc
	ended chan struct{}
	err   error // once it has ended
}

// startProgram runs a listener on db with batches of 100. Events of the type
// name go to s on a channel of that name, which gives them up to limit; what
// is to be discarded is.
func startProgram(ctx context.Context, db *database, name string, s dispatch.Sender, limit time.Duration) (*program, error) {
	d := dispatch.New()
	d.Register(dispatch.ChannelDiscard, nowhere.NewDiscard(), dispatch.Policy{})
	d.Register(dispatch.Channel(name), s, dispatch.Policy{Timeout: limit})
	d.Route(name, func(context.Context, dispatch.Event) []dispatch.Message {
		return []dispatch.Message{{Route: "bench", Step: name, Channel: dispatch.Channel(name)}}
	})
	pool, err := pgxpool.New(ctx, db.url)
	if err != nil {
		return nil, err
	}
	l, err := listener.New(listener.Config{
		Pool: pool, Dispatcher: d, BatchSize: feedChunk, ShutdownGrace: time.Second,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		pool.Close()
		return nil, err
	}
	p := &program{pool: pool, ended: make(chan struct{})}
	ctx, p.end = context.WithCancel(ctx)
	go func() {
		defer close(p.ended)
		p.err = l.Run(ctx)
	}()
	return p, nil
}

// pause implements running.
func (p *program) pause(ctx context.Context, wait time.Duration) error {
	over, err := pauseUntil(ctx, wait, p.ended)
	if over {
		err = fmt.Errorf("the listener ended by itself: %w", p.err)
	}
	return err
}

// stop ends the listener and waits until it has.
func (p *program) stop() {
	p.end()
	<-p.ended
	p.pool.Close()
}
