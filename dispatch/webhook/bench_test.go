package webhook

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/httpsend"
)

// BenchmarkSign signs a body of 250 bytes with one key.
func BenchmarkSign(b *testing.B) {
	keys := [][]byte{[]byte(strings.Repeat("k", 32))}
	id, at, body := uuid.NewString(), time.Now(), strings.Repeat("x", 250)
	b.ReportAllocs()
	for b.Loop() {
		sign(keys, id, at, body)
	}
}

// BenchmarkClassify sorts statuses by what may be done next.
func BenchmarkClassify(b *testing.B) {
	statuses := []int{200, 204, 302, 400, 404, 410, 429, 500, 503, 504}
	h := http.Header{"Retry-After": {"30"}}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		for _, s := range statuses {
			if httpsend.KindOf(s) == dispatch.Throttled {
				httpsend.RetryAfter(h, now)
			}
		}
	}
}

// BenchmarkSend delivers to a receiver on this machine over kept connections:
// the request, the signature, the answer, and the receiver's own share.
func BenchmarkSend(b *testing.B) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer receiver.Close()
	s, err := New(Config{Secrets: []dispatch.Secret{dispatch.Secret(secret('k', 32))}, Reach: loopback})
	if err != nil {
		b.Fatal(err)
	}
	content := []byte(`{"url": "` + receiver.URL + `", "body": "` + strings.Repeat("x", 250) + `"}`)
	b.ReportAllocs()
	for b.Loop() {
		d := &dispatch.Delivery{ID: uuid.New(), Message: dispatch.Message{Channel: dispatch.ChannelWebhook, Content: content}}
		if _, err := s.Send(b.Context(), d); err != nil {
			b.Fatal(err)
		}
	}
}
