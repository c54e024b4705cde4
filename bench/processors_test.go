package bench

import "testing"

func TestTicks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		stat string
		want ticks
		bad  bool
	}{
		{"all fields, guests not twice", "cpu  10 20 30 400 50 6 7 8 9 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n", ticks{400, 531}, false},
		{"an older kernel without guests", "cpu 1 1 1 1 1 1 1 1\n", ticks{1, 8}, false},
		{"too short", "cpu 1 2 3 4\n", ticks{}, true},
		{"no number", "cpu 1 2 3 x 5 6 7 8\n", ticks{}, true},
		{"another file", "", ticks{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseTicks(tt.stat)
			if (err != nil) != tt.bad || !tt.bad && got != tt.want {
				t.Errorf("parseTicks = %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
	span := ticks{130, 600}.since(ticks{100, 500}).plus(ticks{20, 100})
	if got := span.idleShare(); got != 25 {
		t.Errorf("idle for %g %%, want 25", got)
	}
}
