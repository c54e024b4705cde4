package smtp

import (
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/sendertest"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// TestPatience: the answer to the final dot may take longer than all that comes before it
// may, so that a message that a server looks through first is sent once.
func TestPatience(t *testing.T) {
	t.Parallel()
	const soon = 500 * time.Millisecond
	for _, tt := range []struct {
		name, event string
		want        dispatch.Kind // "" where it is taken
	}{
		{"after the final dot", ".", ""},
		{"before it", "DATA", dispatch.Down},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, err := standin.NewScriptedSMTP(func(event string) string {
				if event == tt.event {
					time.Sleep(2 * soon) // what it takes to look through a message
				}
				return ""
			})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			s, err := New(Config{Host: server.Host(), Port: server.Port(), From: "a@example.com"})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			s.beforeDot = soon
			_, err = s.Send(t.Context(), sendertest.NewDelivery(dispatch.ChannelEmail, "b@example.com",
				dispatch.Email{To: []string{"b@example.com"}, Subject: "s", Text: "x"}))
			if kind := dispatch.Kind(""); err != nil {
				if kind = dispatch.AsError(dispatch.ChannelEmail, err).Kind; kind != tt.want {
					t.Errorf("Send = %v, which is %s, want %q", err, kind, tt.want)
				}
			} else if tt.want != "" {
				t.Errorf("it was taken, want %s", tt.want)
			}
		})
	}
}
