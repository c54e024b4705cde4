//go:build unix

package faultrig

import "testing"

// TestContentIsNoSecret: what may stand in the content of a delivery is not taken for a secret that
// may stand nowhere.
func TestContentIsNoSecret(t *testing.T) {
	t.Parallel()
	for name, value := range private {
		if found := leaks(value, true); len(found) > 0 {
			t.Errorf("%s is taken for %s", name, found)
		}
	}
}
