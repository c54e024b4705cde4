package listener

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// holds is a storage that counts how often deliveries were held before the first record.
type holds struct {
	storage
	held     atomic.Int32
	pauses   atomic.Int32 // that were put on record
	recorded func(held int)
}

func (*holds) ttl() time.Duration                       { return time.Hour }
func (*holds) identify(context.Context) (string, error) { return thisDatabase, nil }
func (*holds) busyEvents(context.Context, []entry) (map[int64]bool, error) {
	return nil, nil
}
func (h *holds) changeBrakes(_ context.Context, n news) ([]string, map[string]time.Duration, []onBrake, error) {
	h.pauses.Add(int32(len(n.puts)))
	return nil, nil, nil, nil
}
func (h *holds) holdKept(context.Context, []*job) error { h.held.Add(1); return nil }

func (h *holds) recordEvents(_ context.Context, entries []entry) (map[int64]bool, error) {
	h.recorded(int(h.held.Load()))
	kept := map[int64]bool{}
	for _, en := range entries {
		kept[en.seq()] = true
	}
	return kept, nil
}

func (h *holds) recordDeliveries(_ context.Context, entries []entry) (map[uuid.UUID]bool, error) {
	kept := map[uuid.UUID]bool{}
	for _, en := range entries {
		kept[en.job.ID] = true
	}
	return kept, nil
}

// TestRestoreHoldsFirst: what is on its own is held, in all files, before anything is recorded, and no file
// waits for another: records of events that somebody has locked take seconds, in which a lease may end.
func TestRestoreHoldsFirst(t *testing.T) {
	dir := t.TempDir()
	const files = 3
	for range files {
		if _, err := spoolDir(dir).write(thisDatabase, someSpooled()); err != nil {
			t.Fatal(err)
		}
	}
	pool, err := pgxpool.New(t.Context(), "postgres://localhost/none") // never connected to
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	l, err := New(Config{Pool: pool, Dispatcher: dispatch.New(), StateDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var records atomic.Int32
	all := make(chan struct{})
	h := &holds{}
	l.store = h
	h.recorded = func(held int) {
		if h.pauses.Load() != 1 {
			t.Errorf("%d pauses were on record before an outcome, want the one", h.pauses.Load())
		}
		if held != files {
			t.Errorf("the deliveries of %d files were held before a record, want those of %d", held, files)
		}
		if records.Add(1) == files {
			close(all)
		}
		select {
		case <-all:
		case <-time.After(20 * time.Second):
			t.Error("one file waits for another")
		}
	}
	if err := l.restore(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	l.restoring.Wait()
	if left, err := spoolDir(dir).list(); err != nil || len(left) > 0 || records.Load() != files {
		t.Errorf("%d records, %v left, %v", records.Load(), left, err)
	}
}
