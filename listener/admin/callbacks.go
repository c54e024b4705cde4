package admin

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Callbacks is where a provider reports what became of deliveries. Anybody may come
// there, without the key: what was not signed by the provider is refused before the
// database hears of it.
type Callbacks struct {
	Path string // such as /twilio/status; none of those of the admin endpoint

	// Read says what a request reports. An error says that the provider did not send it.
	Read func(query string, header http.Header, body []byte) (dispatch.Report, error)

	// Record puts it on record. known is false where there is no such delivery. An
	// error says that it is not on record.
	Record func(context.Context, dispatch.Report) (known bool, err error)
}

// callbackTimeout is how long a report may take to be on record. Twilio waits 15 s.
const callbackTimeout = 8 * time.Second

// CallbackPathTaken reports whether path belongs to the admin endpoint.
func CallbackPathTaken(path string) bool {
	return path == "/" || path == "" || path == "/api/healthz" || path == "/api/readyz" || path == "/api/admin" || strings.HasPrefix(path, "/api/admin/")
}

// callback answers 204 for what is on record, and for what is of no delivery of ours: the
// provider would only send it again. 403 says that it was not signed, with nothing
// about why, and 503 that the database is away.
//
// Nobody is locked out for wrong signatures: behind a proxy all come from one
// address, the provider too, and a signature cannot be guessed.
func (s *Server) callback(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	report, err := s.cfg.Callbacks.Read(r.URL.RawQuery, r.Header, body)
	if err != nil {
		if n, _ := s.unsigned.add(r.RemoteAddr); n == 1 || n == maxFailures+1 {
			s.cfg.Log.Warn("callback not signed by the provider; is its URL here the one that it has, and the token of the same account?",
				"from", r.RemoteAddr, "failures", n)
		}
		fail(w, http.StatusForbidden, "forbidden")
		return
	}
	if report.Delivery != uuid.Nil {
		ctx, cancel := context.WithTimeout(r.Context(), callbackTimeout)
		defer cancel()
		known, err := s.cfg.Callbacks.Record(ctx, report)
		if err != nil {
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusServiceUnavailable, "unavailable")
			return
		}
		if !known {
			s.cfg.Log.Debug("callback for a delivery that is not in the ledger", "delivery", report.Delivery)
		}
	}
	w.WriteHeader(http.StatusNoContent)
}
