package listener

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// hungStore is a storage that says nothing until nobody waits any more.
type hungStore struct{ storage }

func (hungStore) claimDue(ctx context.Context, _ int) (*lease, []*job, error) {
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

func (hungStore) noteCrashes(ctx context.Context, _, _ uuids, _ int) (map[uuid.UUID]int, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestClaimsAtAStop: what is asked beside a claim is seen through at a stop, and not waited
// for where the database hangs.
func TestClaimsAtAStop(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(context.Context, *Listener){
		"due deliveries": func(ctx context.Context, l *Listener) { _, _ = l.takeDue(ctx, 1, nil) },
		"crashes":        func(ctx context.Context, l *Listener) { l.crashes(ctx, make(uuids, 1), make(uuids, 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &Listener{store: hungStore{}, log: quietLog(), sparse: newSparse(quietLog())}
				ctx, stop := context.WithTimeout(t.Context(), time.Minute)
				defer stop()
				begun := time.Now()
				ask(ctx, l)
				if took := time.Since(begun); took != time.Minute+seenThrough {
					t.Errorf("waited for %s, want until %s after the stop", took, seenThrough)
				}
			})
		})
	}
}
