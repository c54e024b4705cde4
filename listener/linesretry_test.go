package listener

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

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
