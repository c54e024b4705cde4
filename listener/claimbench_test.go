package listener

import (
	"fmt"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// BenchmarkClaim claims waiting events, as many claims in one round trip as
// said; a round trip is one operation. Run it with a fixed number of them, such
// as -benchtime 200x, since their events are made beforehand.
func BenchmarkClaim(b *testing.B) {
	for _, c := range []struct{ limit, times int }{{1, 1}, {10, 1}, {10, 16}, {100, 1}, {1000, 1}} {
		b.Run(fmt.Sprintf("limit=%d/times=%d", c.limit, c.times), func(b *testing.B) {
			db := pgtest.New(b)
			pgtest.Exec(b, db, `insert into outbox_events (type, payload)
				select 'x', jsonb_build_object('text', repeat('x', 200)) from generate_series(1, $1::int)`, b.N*c.limit*c.times)
			s := &store{pool: db.Pool, lease: time.Minute, maxPayload: 1 << 20}
			b.ReportAllocs()
			b.ResetTimer()
			n := 0
			for lower := int64(0); n < b.N*c.limit*c.times; {
				claims, _, err := s.claimEvents(b.Context(), lower, top, c.limit, c.times)
				if err != nil || len(claims) != c.times {
					b.Fatal(len(claims), err)
				}
				for _, c := range claims {
					n += len(c.events)
					lower = max(lower, c.events[len(c.events)-1].seq)
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
