// Package country says which countries a phone number may belong to.
package country

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/nyaruka/phonenumbers"
)

// List are countries by their two letters of ISO 3166-1, in capitals. None means all.
type List []string

var known = sync.OnceValue(phonenumbers.GetSupportedRegions)

// Parse reads countries that are separated by commas or blanks.
func Parse(s string) (List, error) {
	var all List
	for _, name := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		name = strings.ToUpper(name)
		if !known()[name] {
			return nil, fmt.Errorf("there is no country %.8q; US and CA are two", name)
		}
		all = append(all, name)
	}
	return all, nil
}

// Has reports whether the number to, in E.164 form, is one of them. Where several
// countries have one code and nobody knows whose number it is, it counts as that of
// the largest.
func (c List) Has(to string) bool {
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
