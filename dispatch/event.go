// Package dispatch turns an event into deliveries and sends them. It decides
// who gets what on which channel, and how each failure is to be understood.
// It knows nothing of queues, leases or the tables that hold events.
package dispatch

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Event is one committed row of outbox_events.
type Event struct {
	ID        uuid.UUID
	Type      string          // for example "sms.send" or "quote.sent"
	Payload   json.RawMessage // the jsonb as Postgres prints it; numbers are exact
	CreatedAt time.Time       // the row's created_at, by the database's clock

	// Printed says that Payload is jsonb as Postgres printed it, so that nobody has to
	// see whether it is JSON. It may be nested deeper than encoding/json reads, and of a
	// database in SQL_ASCII not be UTF-8.
	Printed bool
}
