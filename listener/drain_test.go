package listener

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestDrainBesideDeafHandler: Drain ends with Run, and says that something is
// left, where a handler keeps what it claimed. Nobody else claims here: a
// listener that falls asleep looks once more, and might be the one to find the
// event.
func TestDrainBesideDeafHandler(t *testing.T) {
	t.Parallel()
	db, d := pgtest.New(t), dispatch.New()
	entered, over := make(chan struct{}, 1), make(chan struct{})
	d.Handle("greeting", dispatch.HandlerFunc(func(context.Context, dispatch.Event) error {
		entered <- struct{}{}
		<-over
		return nil
	}))
	l, err := New(Config{Pool: db.Pool, Dispatcher: d, ShutdownGrace: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- l.run(ctx, true, func(ctx context.Context) error {
			close(begun)
			<-ctx.Done()
			return nil
		})
	}()
	defer close(over)
	<-begun
	pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('greeting', '{}')`)
	drained := make(chan error, 1)
	go func() {
		_, err := l.Drain(t.Context(), 0)
		drained <- err
	}()
	<-entered
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	select {
	case err := <-drained:
		if !errors.Is(err, ErrNotRunning) {
			t.Errorf("Drain: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Drain goes on 5 s after the end of Run")
	}
}
