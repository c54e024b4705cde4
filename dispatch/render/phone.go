package render

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/nyaruka/phonenumbers"
)

// phone asks whether a number is possible, which goes by its length, and not
// whether it is valid: the ranges in use change faster than a library.
func phone(c call, args []any) (any, error) {
	region, err := option(args, 1, c.run.t.set.Region)
	if err != nil {
		return nil, err
	}
	if err := checkRegion(region); err != nil {
		return nil, err
	}
	number, err := plain(args[0])
	if err != nil {
		return nil, err
	}
	if number = strings.TrimSpace(number); number == "" {
		return "", nil
	}
	const longest = 250 // as the library has it
	if len(number) <= longest {
		if e164, ok := possible(number, region); ok {
			return e164, nil
		}
		// The prefix of most of the world, which regions with another one do not know.
		if rest, ok := strings.CutPrefix(number, "00"); ok {
			if e164, ok := possible("+"+rest, region); ok {
				return e164, nil
			}
		}
	}
	if region == "" {
		return nil, errors.New("this cannot be a phone number; it has to begin with + and a country code, unless a region is set")
	}
	return nil, fmt.Errorf("this cannot be a phone number, neither one of %s nor one with + and a country code", strings.ToUpper(region))
}

// possible leaves out what can only be dialled within a place, without its area
// code: the E.164 form of that would be another number.
func possible(number, region string) (string, bool) {
	n, err := phonenumbers.Parse(number, strings.ToUpper(region))
	if err != nil || phonenumbers.IsPossibleNumberWithReason(n) != phonenumbers.IS_POSSIBLE {
		return "", false
	}
	return phonenumbers.Format(n, phonenumbers.E164), true
}

var regions = sync.OnceValue(func() map[string]bool { return phonenumbers.GetSupportedRegions() })

func checkRegion(region string) error {
	if region != "" && !regions()[strings.ToUpper(region)] {
		return errors.New("there is no such region; it has to be a country code of two letters, such as US")
	}
	return nil
}

func checkPhone(s *Set, args []literal) (int, error) {
	if len(args) == 1 {
		return 0, checkRegion(s.Region)
	}
	if region, ok := args[1].value.(string); ok {
		return 1, checkRegion(region)
	}
	return 0, nil
}

func checkEnv(s *Set, args []literal) (int, error) {
	name, ok := args[0].value.(string)
	if !ok {
		return 0, errors.New(`it takes a name in quotes, as in env "SITE_URL"`)
	}
	if _, ok := s.Env[name]; ok {
		return 0, nil
	}
	exposed := make([]string, 0, len(s.Env))
	for n := range s.Env {
		exposed = append(exposed, n)
	}
	slices.Sort(exposed)
	if len(exposed) == 0 {
		return 0, fmt.Errorf("%s may not be read; list it under expose_env", short(name))
	}
	return 0, fmt.Errorf("%s may not be read; list it under expose_env, which has %s", short(name), strings.Join(nearest(name, exposed), ", "))
}

func env(c call, args []any) (any, error) {
	name, _ := args[0].(string)
	return c.run.t.set.Env[name], nil
}
