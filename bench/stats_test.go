package bench

import (
	"math"
	"slices"
	"testing"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"one", []float64{3}, 3},
		{"odd", []float64{9, 1, 5}, 5},
		{"even", []float64{4, 1, 2, 9}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			values := slices.Clone(tt.values)
			if got := median(values); got != tt.want {
				t.Errorf("median = %v, want %v", got, tt.want)
			}
			if !slices.Equal(values, tt.values) {
				t.Error("the values were moved")
			}
		})
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v", got)
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, tt := range []struct {
		name   string
		values []float64
		p      float64
		want   float64
	}{
		{"least", hundred, 0, 1},
		{"half", hundred, 50, 50},
		{"all but one", hundred, 99, 99},
		{"most", hundred, 100, 100},
		{"of few, the most", []float64{1, 2, 3}, 99, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := percentile(tt.values, tt.p); got != tt.want {
				t.Errorf("percentile = %v, want %v", got, tt.want)
			}
		})
	}
	if got := percentile(nil, 50); !math.IsNaN(got) {
		t.Errorf("percentile of nothing = %v", got)
	}
}

func TestRatios(t *testing.T) {
	t.Parallel()
	if got := ratios([]float64{10, 9, 8}, []float64{5, 3}); !slices.Equal(got, []float64{2, 3}) {
		t.Errorf("ratios = %v", got)
	}
	if got := ratios([]float64{1, 2}, []float64{0, 4}); !slices.Equal(got, []float64{0.5}) {
		t.Errorf("beside a round in which nothing was done: %v", got)
	}
	if got := ratios(nil, []float64{5}); len(got) != 0 {
		t.Errorf("ratios of nothing = %v", got)
	}
}

func TestLarger(t *testing.T) {
	t.Parallel()
	if got := larger([]float64{1, 9}, []float64{5, 3}); !slices.Equal(got, []float64{5, 9}) {
		t.Errorf("larger = %v", got)
	}
	if got := larger(nil, []float64{5, 3}); !slices.Equal(got, []float64{5, 3}) {
		t.Errorf("larger, one not measured = %v", got)
	}
	if got := smaller([]float64{1, 9}, []float64{5, 3}); !slices.Equal(got, []float64{1, 3}) {
		t.Errorf("smaller = %v", got)
	}
	if got := smaller([]float64{5, 3}, nil); !slices.Equal(got, []float64{5, 3}) {
		t.Errorf("smaller, one not measured = %v", got)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 0.01234: "0.0123", 0.5: "0.5", 1.234: "1.23", 12.34: "12.3", 123.4: "123",
		1234.5: "1,234", 1234567: "1,234,567", -1234: "-1,234", -0.5: "-0.5", 100000: "100,000",
	} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
	if got := number(math.NaN()); got != "–" {
		t.Errorf("number(NaN) = %q", got)
	}
}
