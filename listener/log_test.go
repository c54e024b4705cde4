package listener

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestSparse: a failure that goes on is told less and less often, and one that comes
// back after a while at once; other lines come once a second.
func TestSparse(t *testing.T) {
	t.Parallel()
	const every = 100 * time.Millisecond
	for _, tt := range []struct {
		name  string
		line  func(*sparse)
		spans []time.Duration // with the line each 100 ms, and silent, in turns
		want  []time.Duration // of the lines, from the start
	}{
		{"a failure", func(s *sparse) { s.warn("away", errors.New("no route")) },
			[]time.Duration{50 * time.Second},
			[]time.Duration{0, 1 * time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second, 31 * time.Second, 47 * time.Second}},
		{"a failure that comes back", func(s *sparse) { s.warn("away", errors.New("no route")) },
			[]time.Duration{4 * time.Second, 6 * time.Second, 2 * time.Second, 40 * time.Second, 2 * time.Second},
			[]time.Duration{0, 1 * time.Second, 3 * time.Second, 10 * time.Second, 52 * time.Second, 53 * time.Second}},
		{"what is no failure", func(s *sparse) { s.say(slog.LevelWarn, "taken over") },
			[]time.Duration{4 * time.Second},
			[]time.Duration{0, 1 * time.Second, 2 * time.Second, 3 * time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				s := newSparse(slog.New(slog.NewJSONHandler(&out, nil)))
				begun, tried := time.Now(), 0
				for i, span := range tt.spans {
					for range span / every {
						if i%2 == 0 {
							tt.line(s)
							tried++
						}
						time.Sleep(every) // of the fake clock
					}
				}
				var got []time.Duration
				told := 0
				for text := range strings.Lines(out.String()) {
					var line struct {
						Time     time.Time
						Repeated int
					}
					if err := json.Unmarshal([]byte(text), &line); err != nil {
						t.Fatal(err)
					}
					got = append(got, line.Time.Sub(begun))
					told += 1 + line.Repeated
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("lines at %v, want %v", got, tt.want)
				}
				if told > tried || told < tried-200 {
					t.Errorf("%d of %d are told", told, tried)
				}
			})
		})
	}
}
