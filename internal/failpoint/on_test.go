//go:build failpoint && unix

package failpoint

import (
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	m, err := parse("K6=kill@3, K9=sleep:5s,K1=stop")
	if err != nil {
		t.Fatal(err)
	}
	if p := m["K6"]; p.action != "kill" || p.at != 3 {
		t.Errorf("K6: %s at %d", p.action, p.at)
	}
	if p := m["K9"]; p.action != "sleep" || p.sleep != 5*time.Second || p.at != 1 {
		t.Errorf("K9: %s of %s at %d", p.action, p.sleep, p.at)
	}
	for _, bad := range []string{"K6", "K6=die", "K6=kill@0", "K6=kill@x", "K6=sleep:x"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestHitOnce(t *testing.T) {
	points, _ = parse("T=panic@2")
	panics := func() (yes bool) {
		defer func() { yes = recover() != nil }()
		Hit("T")
		return false
	}
	for i, want := range []bool{false, true, false} {
		if panics() != want {
			t.Errorf("time %d: panics is not %v", i+1, want)
		}
	}
}
