package bench

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/sql"
)

// TestClaimLog: the log comes in pieces of any size, and has other things in
// it too.
func TestClaimLog(t *testing.T) {
	t.Parallel()
	const fence = "0b8e0a3c-5f0e-4b0e-9a55-0d6c3b1f7a11"
	begun := time.Now()
	text := ""
	for _, line := range []string{
		"[17] LOG:  duration: 0.111 ms  bind stmtcache_1: " + sql.Query("claim_events"),
		"[17] LOG:  duration: 0.222 ms  execute stmtcache_1: " + sql.Query("claim_events"),
		"[18] LOG:  duration: 0.333 ms  execute stmtcache_2: " + sql.Query("record_events"),
		"[18] DETAIL:  parameters: $1 = '{1}', $2 = '{2}', $3 = '3', $4 = '4', $5 = '{00000000-0000-4000-8000-000000000000}'",
		"[17] DETAIL:  parameters: $1 = '0', $2 = '99', $3 = '10', $4 = '20', $5 = '{" + fence + ",5d...', $6 = '65536'",
		"[19] LOG:  checkpoint complete",
		"[20] LOG:  duration: 0.444 ms  execute stmtcache_3: " + sql.Query("claim_range"),
		"[20] DETAIL:  Parameters: $1 = '10', $2 = '10', $3 = '20', $4 = '{" + fence + ",6e...', $5 = '{0b8e0a3c'",
		"[17] LOG:  duration: 44.5 ms  execute <unnamed>: " + sql.Query("claim_events"),
	} {
		text += "2026-11-25 01:02:03.004 UTC " + line + "\n"
	}
	for _, size := range []int{1, 7, 64, len(text)} {
		c := newClaimLog()
		for piece := range slices.Chunk([]byte(text), size) {
			if n, err := c.Write(piece); n != len(piece) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
		}
		got := c.between(begun, time.Now().Add(time.Second))
		if len(got) != 3 || got[0].took != 0.222 || got[0].claim != uuid.MustParse(fence) ||
			got[1].took != 0.444 || got[1].claim != uuid.MustParse(fence) || got[2].took != 44.5 || got[2].claim != uuid.Nil {
			t.Errorf("in pieces of %d: %v", size, got)
		}
		if got := c.between(begun.Add(-time.Hour), begun); len(got) != 0 {
			t.Errorf("before it began: %v", got)
		}
	}
}

func TestInTurn(t *testing.T) {
	t.Parallel()
	for round, want := range []string{"abc", "bca", "cab", "abc"} {
		if got := string(inTurn(round, []byte("abc"))); got != want {
			t.Errorf("round %d: %s, want %s", round, got, want)
		}
	}
}
