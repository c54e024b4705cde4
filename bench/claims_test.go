package bench

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/sql"
)

// TestClaimLog: the log comes in pieces of any size, and has other things in
// it too.
func TestClaimLog(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	text := ""
	for _, line := range []string{
		"duration: 0.111 ms  bind stmtcache_1: " + sql.Query("claim_events"),
		"duration: 0.222 ms  execute stmtcache_1: " + sql.Query("claim_events"),
		"duration: 0.333 ms  execute stmtcache_2: " + sql.Query("record_events"),
		"checkpoint complete",
		"duration: 44.5 ms  execute <unnamed>: " + sql.Query("claim_events"),
	} {
		text += fmt.Sprintf("2026-11-25 01:02:03.004 UTC [17] LOG:  %s\n", line)
	}
	for _, size := range []int{1, 7, 64, len(text)} {
		var c claimLog
		for piece := range slices.Chunk([]byte(text), size) {
			if n, err := c.Write(piece); n != len(piece) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
		}
		if got := c.between(begun, time.Now().Add(time.Second)); !slices.Equal(got, []float64{0.222, 44.5}) {
			t.Errorf("in pieces of %d: %v", size, got)
		}
		if got := c.between(begun.Add(-time.Hour), begun); len(got) != 0 {
			t.Errorf("before it began: %v", got)
		}
	}
}
