package sink

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/sendertest"
)

func TestLogHidesThePayload(t *testing.T) {
	var b bytes.Buffer
	s := NewLog(slog.New(slog.NewJSONHandler(&b, nil)))
	d := sendertest.NewDelivery(dispatch.ChannelLog, "", map[string]string{"name": "canary\r\n"})
	if _, err := s.Send(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	line := b.String()
	if strings.Contains(line, "canary") || strings.Count(line, "\n") != 1 {
		t.Errorf("logged %q", line)
	}
	for _, want := range []string{d.EventID.String(), d.ID.String(), `"type":"log.send"`, `"bytes":21`, `"attempt":1`} {
		if !strings.Contains(line, want) {
			t.Errorf("logged %q, want %s in it", line, want)
		}
	}
}

func TestNewLogWithoutLogger(t *testing.T) {
	if s := NewLog(nil); s.logger == nil {
		t.Error("has no logger")
	}
}

func TestSend(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for ch, s := range map[dispatch.Channel]dispatch.Sender{
		dispatch.ChannelLog:     NewLog(slog.New(slog.DiscardHandler)),
		dispatch.ChannelDiscard: NewDiscard(),
	} {
		d := sendertest.NewDelivery(ch, "", nil)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := s.Send(t.Context(), d); err != nil {
					t.Errorf("%s: %v", ch, err)
				}
			})
		}
		wg.Wait()
		_, err := s.Send(ended, d)
		if e, ok := errors.AsType[*dispatch.Error](err); !ok || e.Kind != dispatch.Down || e.Channel != ch || !errors.Is(err, context.Canceled) {
			t.Errorf("%s after its context ended: %v", ch, err)
		}
	}
}
