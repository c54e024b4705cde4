package listener_test

import (
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/devpg"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// orderedRouter is a router whose events, all of them, may come into a line.
type orderedRouter struct{ router }

// Ordered implements dispatch.Orderer.
func (orderedRouter) Ordered() []string { return []string{"*"} }

// supersedes plans "cancel" as what cancels the reminder of "older", without a line of its
// own, and all else as one step in the line "a".
func supersedes(ordering string) router {
	return router{plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
		switch ev.Type {
		case "cancel":
			return []dispatch.Message{{Route: "c", Step: "reminder", Skip: "cancels earlier deliveries", Terms: &dispatch.Terms{Freeze: true, Supersedes: "7"}}}, nil
		case "older":
			return []dispatch.Message{step("reminder", dispatch.Terms{Supersedes: "7", Ordering: ordering, Retry: dispatch.Retries{First: time.Millisecond}})}, nil
		}
		return []dispatch.Message{step("next", dispatch.Terms{Ordering: ordering})}, nil
	}}
}

// TestSupersededPassesTheTurn: what was superseded while it was sent, and was not taken,
// passes the turn at once, without a sweep.
func TestSupersededPassesTheTurn(t *testing.T) {
	t.Parallel()
	db, b := pgtest.New(t), newBlocker()
	b.answer = func(d *dispatch.Delivery) error {
		if d.Step == "reminder" {
			return &dispatch.Error{Channel: "carrier", Kind: dispatch.Down}
		}
		return nil
	}
	d := dispatch.New()
	d.Register("carrier", b, plain)
	d.Use(orderedRouter{supersedes("a")})
	start(t, newListener(t, db, d, rarely))
	older := insert(t, db, "older", `{}`)
	<-b.entered
	wantStates(t, db, insert(t, db, "cancel", `{}`), map[string]string{"reminder": "skipped"})
	next := insert(t, db, "next", `{}`)
	wantStates(t, db, next, map[string]string{"next": "ready"})
	close(b.gate)
	wantStates(t, db, older, map[string]string{"reminder": "canceled"})
	becomes(t, db, next, "delivered")
}

// TestRestoredAndSuperseded: an outcome that outlived a stop in a file, of a delivery that was
// superseded while it was sent, does not have it sent again.
func TestRestoredAndSuperseded(t *testing.T) {
	t.Parallel()
	server, dir := pgtest.Private(t), t.TempDir()
	db, b := pgtest.NewOn(t, server), newBlocker()
	b.answer = func(*dispatch.Delivery) error { return &dispatch.Error{Channel: "carrier", Kind: dispatch.Down} }
	d := routed(b, plain, supersedes(""))
	l := newListener(t, db, d, func(c *listener.Config) {
		c.Lease, c.ShutdownGrace, c.StateDir = 20*time.Second, 200*time.Millisecond, dir
	})
	stop := start(t, l)
	listening(t, l)
	older := insert(t, db, "older", `{}`)
	<-b.entered
	wantStates(t, db, insert(t, db, "cancel", `{}`), map[string]string{"reminder": "skipped"})
	wantStates(t, db, older, map[string]string{"reminder": "sending"})
	if err := server.Halt(t.Context(), devpg.Fast); err != nil {
		t.Fatal(err)
	}
	close(b.gate)
	pgtest.Eventually(t, 5*time.Second, func() (bool, string) { return b.count() == 1, "not sent" })
	stop()
	if files := spools(t, dir); len(files) != 1 {
		t.Fatalf("files: %v", files)
	}
	if err := server.Restart(t.Context(), devpg.Fast); err != nil {
		t.Fatal(err)
	}
	if _, err := newListener(t, db, d, func(c *listener.Config) { c.StateDir = dir }).Once(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	wantStates(t, db, older, map[string]string{"reminder": "canceled"})
	if b.count() != 1 {
		t.Errorf("%d sent, want 1", b.count())
	}
}
