package country

import (
	"fmt"
	"testing"
)

func TestCountries(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		countries, to string
		want          bool
	}{
		{"", "+4930123456", true},
		{"US", "+12025550123", true},
		{"US", "+15550100123", true}, // no code of an area, as of examples
		{"US", "+14165550123", false},
		{"us, ca", "+14165550123", true},
		{"US,CA", "+18765550123", false}, // Jamaica, a favorite of those who are paid by the message
		{"US CA", "+4930123456", false},
		{"DE AT", "+436641234567", true},
		{"GB", "+447400123456", true},
		{"GB", "+447624123456", false}, // the Isle of Man
		{"US", "+8835100123456", false},
		{"US", "+999123456789", false}, // nobody's
		{"US", "", false},
	} {
		c, err := Parse(tt.countries)
		if err != nil || c.Has(tt.to) != tt.want {
			t.Errorf("%q has %q: %t, %v", tt.countries, tt.to, !tt.want, err)
		}
	}
	for _, bad := range []string{"USA", "+1", "US;CA", "XX"} {
		if c, err := Parse(bad); err == nil {
			t.Errorf("%q: %s", bad, fmt.Sprint(c))
		}
	}
}
