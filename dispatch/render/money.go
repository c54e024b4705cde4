package render

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// decimals are the currencies whose minor unit is not a hundredth (ISO 4217,
// list one).
var decimals = map[string]int{
	"BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0,
	"RWF": 0, "UGX": 0, "UYI": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
	"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
}

// signs are the currencies that English texts write with a sign (CLDR, en).
// Others have their code before them.
var signs = map[string]string{
	"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "AUD": "A$", "CAD": "CA$", "MXN": "MX$", "NZD": "NZ$",
}

// currency returns the code in capitals, as Stripe does not write it.
func currency(code string) (string, error) {
	code = strings.ToUpper(code)
	if len(code) != 3 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "", errors.New("the currency has to be a code of three letters, such as EUR")
	}
	return code, nil
}

func places(code string) int {
	if n, ok := decimals[code]; ok {
		return n
	}
	return 2
}

func checkMoney(_ *Set, args []literal) (int, error) {
	if len(args) > 1 {
		if code, ok := args[1].value.(string); ok && code != "" {
			if _, err := currency(code); err != nil {
				return 1, err
			}
		}
	}
	if len(args) > 2 {
		if form, ok := args[2].value.(string); ok {
			if err := checkForm(form); err != nil {
				return 2, err
			}
		}
	}
	return 0, nil
}

func checkForm(form string) error {
	switch form {
	case "sign", "code", "plain", "":
		return nil
	}
	return errors.New(`the third value has to be "code" or "plain"`)
}

func money(_ call, args []any) (any, error) { return formatMoney(args, false) }

func cents(_ call, args []any) (any, error) { return formatMoney(args, true) }

func formatMoney(args []any, minor bool) (any, error) {
	code, err := option(args, 1, "USD")
	if err != nil {
		return nil, err
	}
	form, err := option(args, 2, "sign")
	if err != nil {
		return nil, err
	}
	if code, err = currency(code); err != nil {
		return nil, err
	}
	if err := checkForm(form); err != nil {
		return nil, err
	}
	if empty(args[0]) {
		return "", nil
	}
	n, err := amount(args[0])
	if err != nil {
		return nil, fmt.Errorf("the amount: %w", err)
	}
	digits := places(code)
	if minor {
		if !n.IsInt() {
			return nil, errors.New("the amount has to be a whole number of the smallest unit; for others there is money")
		}
		unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil)
		n.SetFrac(n.Num(), unit)
	}
	s := n.FloatString(digits)
	if strings.Trim(s, "-0.") == "" {
		s = strings.TrimPrefix(s, "-") // rounded to nothing
	}
	if form == "plain" {
		return s, nil
	}
	sign, mark := "", code+" "
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	if signs[code] != "" && form == "sign" {
		mark = signs[code]
	}
	return sign + mark + grouped(s), nil
}

func pluralize(_ call, args []any) (any, error) {
	n, err := amount(args[0])
	if err != nil {
		return nil, fmt.Errorf("the number: %w", err)
	}
	one, err := plain(args[1])
	if err != nil {
		return nil, err
	}
	many, err := option(args, 2, one+"s")
	if err != nil {
		return nil, err
	}
	s, err := plain(args[0])
	if err != nil {
		return nil, err
	}
	if n.Abs(n).Cmp(big.NewRat(1, 1)) == 0 {
		many = one
	}
	return strings.TrimSpace(s) + " " + many, nil
}
