package sql_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/sql"
)

// TestAttemptsThatDiffer: of two records of one attempt, the one of unknown outcome
// stands, and otherwise the first.
func TestAttemptsThatDiffer(t *testing.T) {
	t.Parallel()
	conn := daemon(t)
	for _, tt := range []struct{ name, first, second, want string }{
		{"the same again", "down", "down", "down: first"},
		{"unknown again", "unknown", "unknown", "unknown: first"},
		{"unknown, after who lost it was told no", "down", "unknown", "unknown: second"},
		{"no, after who lost it does not know", "unknown", "down", "unknown: first"},
		{"no, after another no", "down", "rejected", "down: first"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := uuid.New()
			for n, kind := range []string{tt.first, tt.second} {
				for _, query := range []string{"record_attempts", "unknown_attempts"} {
					if _, err := conn.Exec(t.Context(), sql.Query(query), []uuid.UUID{id, id}, []int{1, 2}, []float64{1, 1}, []string{"retry", "retry"},
						[]string{kind, "down"}, []*int{nil, nil}, []string{[]string{"first", "second"}[n], "another"}); err != nil {
						t.Fatal(err)
					}
				}
			}
			var got string
			var all int
			if err := conn.QueryRow(t.Context(), `select max(kind || ': ' || error) filter (where attempt = 1), count(*) from outbox.attempts where delivery_id = $1`, id).Scan(&got, &all); err != nil {
				t.Fatal(err)
			}
			if got != tt.want || all != 2 {
				t.Errorf("%s, and %d rows; want %s, and 2", got, all, tt.want)
			}
		})
	}
}
