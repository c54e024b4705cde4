package listener_test

import (
	"fmt"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/sink"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
)

// BenchmarkDrain claims, discards and records b.N waiting events: run it with
// -benchtime 50000x or so. The server has fsync off, so that this measures
// statements and the pool, not the disk.
func BenchmarkDrain(b *testing.B) {
	for _, batch := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			db, d := pgtest.New(b), dispatch.New()
			d.Register(dispatch.ChannelDiscard, sink.NewDiscard(), dispatch.Policy{})
			pgtest.Exec(b, db, `insert into outbox_events (type, payload)
				select 'discard.send', jsonb_build_object('n', n, 'text', repeat('x', 200)) from generate_series(1, $1::int) as n`, b.N)
			l := newListener(b, db, d, func(c *listener.Config) { c.BatchSize = batch })
			b.ResetTimer()
			stats, err := l.Once(b.Context(), 0)
			b.StopTimer()
			if err != nil || stats.Processed != b.N {
				b.Fatalf("Once = %+v, %v", stats, err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
