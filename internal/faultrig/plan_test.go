//go:build unix

package faultrig

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPlan: a seed decides everything, and a row of them has every kind of
// fault and every point.
func TestPlan(t *testing.T) {
	if a, b := NewPlan(5, 200, time.Second).String(), NewPlan(5, 200, time.Second).String(); a != b || a == NewPlan(6, 200, time.Second).String() {
		t.Errorf("not decided by the seed:\n%s\n%s", a, b)
	}
	kinds, points, sizes, ofModels := map[Kind]bool{}, map[string]bool{}, map[[2]int]bool{}, map[Kind]bool{}
	for seed := range uint64(40) {
		p := NewPlan(seed, 200, time.Second)
		sizes[[2]int{p.Batch, p.Workers}] = true
		n, back, late := 0, 0, 0
		for _, tx := range p.Transactions {
			switch {
			case tx.Rollback:
				back++
			default:
				n += len(tx.Events)
			}
			if tx.Hold > 0 {
				late++
			}
		}
		if n < 200 || back == 0 || late == 0 || p.Daemons < 1 || p.Daemons > 3 {
			t.Errorf("seed %d: %d events to be committed, %d rollbacks, %d late, %d daemons", seed, n, back, late, p.Daemons)
		}
		for _, f := range p.Faults {
			kinds[f.Kind] = true
			if f.Target == len(channels) && strings.Contains(string(f.Kind), "provider") {
				ofModels[f.Kind] = true
			}
		}
		name, _, _ := strings.Cut(p.First[0], "=")
		points[name] = true
		for _, must := range []Kind{Kill, Stop, Terminate, CutDatabase, LimitProvider, Failpoint} {
			if !slices.ContainsFunc(p.Faults, func(f Planned) bool { return f.Kind == must }) {
				t.Errorf("seed %d has no %s", seed, must)
			}
		}
	}
	if len(kinds) != 16 || len(points) != len(failpoints) || len(ofModels) != 4 {
		t.Errorf("%d kinds of faults, %d points, and %v of models", len(kinds), len(points), ofModels)
	}
	for _, batch := range []int{1, 10, 1000} {
		for _, workers := range []int{8, 32} {
			if !sizes[[2]int{batch, workers}] {
				t.Errorf("no plan has batches of %d and %d workers", batch, workers)
			}
		}
	}
}
