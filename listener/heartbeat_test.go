package listener

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestHeartbeatIsHeard: a heartbeat arrives at whoever listens for it, so that
// silence says something. A listener whose heartbeats never leave would cut one
// good connection after the other.
func TestHeartbeatIsHeard(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `listen somebody`); err != nil {
		t.Fatal(err)
	}
	w := &waker{pool: db.Pool, own: "somebody"}
	if err := w.notify(t.Context(), "beat"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n, err := conn.WaitForNotification(ctx)
	if err != nil || n.Payload != "beat" {
		t.Errorf("heard %+v, %v", n, err)
	}
}
