package listener

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// overtaken is a storage whose first answer about turns comes after the second one.
type overtaken struct {
	storage
	n             atomic.Int32
	asked, answer chan struct{}
}

func (s *overtaken) passTurns(_ context.Context, lines, _ []string) (again []string, err error) {
	if s.n.Add(1) == 1 {
		close(s.asked)
		<-s.answer
		return nil, nil
	}
	return lines, nil
}

// TestOvertakenAnswer: that the turn is to be passed again is not forgotten by an answer which
// is older.
func TestOvertakenAnswer(t *testing.T) {
	t.Parallel()
	s := &overtaken{asked: make(chan struct{}), answer: make(chan struct{})}
	l := &Listener{store: s, cfg: Config{Dispatcher: dispatch.New()}, lines: lines{news: make(chan struct{}, 1)}}
	var first sync.WaitGroup
	first.Go(func() { l.passTurns(t.Context(), []string{"a"}) })
	<-s.asked
	l.passTurns(t.Context(), []string{"a"})
	close(s.answer)
	first.Wait()
	if n := l.lines.left(); n != 1 {
		t.Errorf("%d lines are to be asked again, want 1", n)
	}
}

// slowTurns is a storage that takes for ever to pass a turn.
type slowTurns struct {
	storage
	asked atomic.Int32
}

func (s *slowTurns) passTurns(ctx context.Context, _, _ []string) ([]string, error) {
	s.asked.Add(1)
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestSlowTurns: where passing a turn takes long, whoever records outcomes does not wait for
// it, and the turn is not forgotten.
func TestSlowTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slowTurns{}
		l := &Listener{store: s, log: quietLog(), sparse: newSparse(quietLog()), cfg: Config{Dispatcher: dispatch.New()}, lines: lines{news: make(chan struct{}, 1)}}
		begun := time.Now()
		for range 3 {
			l.passTurnsSoon(t.Context(), []string{"a"})
		}
		if took := time.Since(begun); took > turnsSoon || s.asked.Load() != 1 || l.lines.left() != 1 {
			t.Errorf("after %s, asked %d times, %d lines are to be asked again", took, s.asked.Load(), l.lines.left())
		}
		time.Sleep(turnsSlow)
		if l.passTurnsSoon(t.Context(), []string{"a"}); s.asked.Load() != 2 {
			t.Errorf("a while later it was asked %d times, want 2", s.asked.Load())
		}
	})
}
