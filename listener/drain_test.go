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

// TestDrainWhileNothingIsRecorded: what a caller drains is not claimed either while outcomes cannot be
// recorded: what was sent and is not on record would be claimed with it, once its lease is over.
func TestDrainWhileNothingIsRecorded(t *testing.T) {
	t.Parallel()
	db, d := pgtest.New(t), dispatch.New()
	d.Handle("greeting", dispatch.HandlerFunc(func(context.Context, dispatch.Event) error { return nil }))
	l, err := New(Config{Pool: db.Pool, Dispatcher: d, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	err = l.run(t.Context(), true, func(ctx context.Context) error {
		pgtest.Exec(t, db, `insert into outbox_events (type, payload) values ('greeting', '{}')`)
		failing := &trouble{recorder: l.recorder}
		failing.begin()
		short, cancel := context.WithTimeout(ctx, 5*helpEvery)
		defer cancel()
		if stats, err := l.Drain(short, 0); !errors.Is(err, context.DeadlineExceeded) || stats.Total != 0 {
			t.Errorf("meanwhile: %+v, %v", stats, err)
		}
		if n := pgtest.QueryVal[int](t, db, `select count(*) from outbox_events where claim is not null`); n != 0 {
			t.Error("it was claimed meanwhile")
		}
		failing.end()
		if stats, err := l.Drain(ctx, 0); err != nil || stats.Processed != 1 {
			t.Errorf("afterwards: %+v, %v", stats, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
