package dispatch

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/nyaruka/phonenumbers"
)

// Countries are those that SMS may go to, by their two letters of ISO 3166-1, in
// capitals. None means all.
type Countries []string

var knownCountries = sync.OnceValue(phonenumbers.GetSupportedRegions)

// ParseCountries reads countries that are separated by commas or blanks.
func ParseCountries(s string) (Countries, error) {
	var all Countries
	for _, name := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		name = strings.ToUpper(name)
		if !knownCountries()[name] {
			return nil, fmt.Errorf("there is no country %.8q; US and CA are two", name)
		}
		all = append(all, name)
	}
	return all, nil
}

// Has reports whether the number to, in E.164 form, is one of them. Where several
// countries have one code and nobody knows whose number it is, it counts as that of
// the largest.
func (c Countries) Has(to string) bool {
	if len(c) == 0 {
		return true
	}
	n, err := phonenumbers.Parse(to, "")
	if err != nil {
		return false
	}
	country := phonenumbers.GetRegionCodeForNumber(n)
	if country == "" {
		country = phonenumbers.GetRegionCodeForCountryCode(int(n.GetCountryCode()))
	}
	return slices.Contains(c, country)
}
