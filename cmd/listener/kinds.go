package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/country"
	"github.com/outbox-listener/outbox-listener/listener"
)

// kind is how a variable is read: what its values look like, in words for
// the documentation and for errors, and how one gets into the config.
type kind struct {
	accepts string
	set     func(c *config, value string) error // the error says more than "is not accepted"; see errUnfit
}

// errUnfit is the error of a value for which kind.accepts says enough.
var errUnfit = errors.New("is not accepted")

func text(field func(*config) *string, accepts string) kind {
	return kind{accepts, func(c *config, v string) error {
		*field(c) = v
		return nil
	}}
}

func secret(field func(*config) *dispatch.Secret, accepts string) kind {
	return kind{accepts, func(c *config, v string) error {
		*field(c) = dispatch.Secret(v)
		return nil
	}}
}

// checked is k with one more condition.
func checked(k kind, check func(v string) error) kind {
	return kind{k.accepts, func(c *config, v string) error {
		if err := check(v); err != nil {
			return err
		}
		return k.set(c, v)
	}}
}

func yesNo(field func(*config) *bool) kind {
	return kind{"`true` or `false`", func(c *config, v string) error {
		switch strings.ToLower(v) {
		case "true", "1", "yes", "on":
			*field(c) = true
		case "false", "0", "no", "off":
			*field(c) = false
		default:
			return errUnfit
		}
		return nil
	}}
}

func number(field func(*config) *int, least, most int) kind {
	return kind{fmt.Sprintf("a whole number from %d to %d", least, most), func(c *config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return errUnfit
		}
		*field(c) = n
		return nil
	}}
}

// numberOrNever is a whole number from least to most, or 0, which sets -1.
func numberOrNever(field func(*config) *int, least, most int) kind {
	inner := number(field, 0, most)
	return kind{fmt.Sprintf("a whole number from %d to %d, or `0`", least, most), func(c *config, v string) error {
		if err := inner.set(c, v); err != nil {
			return err
		}
		switch n := field(c); {
		case *n == 0:
			*n = -1
		case *n < least:
			return errUnfit
		}
		return nil
	}}
}

func milliseconds(field func(*config) *time.Duration, most time.Duration) kind {
	whole := func(n *int) kind { return number(func(*config) *int { return n }, 0, int(most.Milliseconds())) }
	return kind{whole(nil).accepts + ", in milliseconds", func(c *config, v string) error {
		n := 0
		if err := whole(&n).set(c, v); err != nil {
			return err
		}
		*field(c) = time.Duration(n) * time.Millisecond
		return nil
	}}
}

// duration takes Go's notation, or plain seconds.
func duration(field func(*config) *time.Duration, least, most time.Duration) kind {
	accepts := fmt.Sprintf("a duration such as `30s` or `1m30s`, or plain seconds, from %s to %s", short(least), short(most))
	return kind{accepts, func(c *config, v string) error {
		d, err := time.ParseDuration(v)
		if seconds, nerr := strconv.ParseUint(v, 10, 31); nerr == nil {
			d, err = time.Duration(seconds)*time.Second, nil
		}
		if err != nil || d < least || d > most {
			return errUnfit
		}
		*field(c) = d
		return nil
	}}
}

// rate takes how much may be sent in a time.
func rate(ch dispatch.Channel) kind {
	return kind{"a whole number and `/s`, `/m` or `/h`, such as `10/s`, `600/m` or `1000/h`", func(c *config, v string) error {
		r, err := listener.ParseRate(v)
		if err != nil {
			return errUnfit
		}
		if c.Rates == nil {
			c.Rates = map[dispatch.Channel]listener.Rate{}
		}
		c.Rates[ch] = r
		return nil
	}}
}

// retention takes days, or Go's notation. What keeps for ever is negative.
func retention(field func(*config) *time.Duration) kind {
	const (
		day   = 24 * time.Hour
		least = time.Hour
		most  = 36500 * day // a century
	)
	return kind{"days such as `30d`, or a duration such as `720h`, from 1h to 36500d; `off` or `0` keeps for ever", func(c *config, v string) error {
		if w := strings.ToLower(v); w == "off" || w == "0" {
			*field(c) = listener.Forever
			return nil
		}
		d, err := time.ParseDuration(v)
		if n, ok := strings.CutSuffix(v, "d"); ok {
			var days uint64
			if days, err = strconv.ParseUint(n, 10, 16); err == nil {
				d = time.Duration(days) * day
			}
		}
		if err != nil || d < least || d > most {
			return errUnfit
		}
		*field(c) = d
		return nil
	}}
}

// short is d without the units that are zero.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// onUncertain takes one of words for what follows where the outcome of a delivery of ch is unknown.
func onUncertain(ch dispatch.Channel, words ...dispatch.OnUnknown) kind {
	return oneOf(func(c *config, w dispatch.OnUnknown) {
		if c.OnUncertain == nil {
			c.OnUncertain = map[dispatch.Channel]dispatch.OnUnknown{}
		}
		c.OnUncertain[ch] = w
	}, words...)
}

// choice takes one of the words, in any case.
func choice[T ~string](field func(*config) *T, words ...T) kind {
	return oneOf(func(c *config, w T) { *field(c) = w }, words...)
}

// oneOf is choice for what is more than a field.
func oneOf[T ~string](set func(*config, T), words ...T) kind {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "`" + string(w) + "`"
	}
	last := len(quoted) - 1
	return kind{strings.Join(quoted[:last], ", ") + " or " + quoted[last], func(c *config, v string) error {
		w := T(strings.ToLower(v))
		if !slices.Contains(words, w) {
			return errUnfit
		}
		set(c, w)
		return nil
	}}
}

func level(field func(*config) *slog.Level) kind {
	return kind{"`debug`, `info`, `warn` or `error`", func(c *config, v string) error {
		l, ok := map[string]slog.Level{
			"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "warning": slog.LevelWarn, "error": slog.LevelError,
		}[strings.ToLower(v)]
		if !ok {
			return errUnfit
		}
		*field(c) = l
		return nil
	}}
}

// readable reports what keeps the file at path from being read.
func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", lastError(err))
	}
	return f.Close()
}

// directory is the check of what is to be a directory that is there.
func directory(path string) error {
	switch info, err := os.Stat(path); {
	case err != nil:
		return fmt.Errorf("cannot be read: %w", lastError(err))
	case !info.IsDir():
		return errUnfit
	}
	return nil
}

// listenAddress takes what a TCP server can be bound to.
func listenAddress(field func(*config) *string) kind {
	return kind{"`host:port`; an empty host means every network of this machine", func(c *config, v string) error {
		host, port, err := net.SplitHostPort(v)
		if err != nil || strings.ContainsAny(host, "/ ") {
			return errUnfit
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return errUnfit
		}
		*field(c) = v
		return nil
	}}
}

func hostName(field func(*config) *string) kind {
	return checked(text(field, "a host name or an IP address, without a port"), func(v string) error {
		if strings.ContainsAny(v, "/@ \t[]") || strings.Count(v, ":") == 1 {
			return errUnfit
		}
		return nil
	})
}

func httpURL(field func(*config) *string, example string) kind {
	return checked(text(field, "an http or https URL such as `"+example+"`, without credentials or a query"), func(v string) error {
		u, err := url.Parse(v)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return errUnfit
		}
		return nil
	})
}

func mailAddress(field func(*config) *string) kind {
	return checked(text(field, "one e-mail address, with or without a name: `Myst <hello@example.com>`"), func(v string) error {
		if _, err := mail.ParseAddress(v); err != nil {
			return errUnfit
		}
		return nil
	})
}

// listed are the words of a list.
func listed(v string) []string {
	return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
}

func recipients(field func(*config) *dispatch.Recipients) kind {
	const accepts = "numbers, beginnings of numbers, addresses, domains and hosts, separated by commas or blanks: `+15550100123, +1555*, ann@example.com, @example.com, hooks.example.com, localhost:8080`"
	return kind{accepts, func(c *config, v string) (err error) {
		*field(c), err = dispatch.ParseRecipients(listed(v))
		return err
	}}
}

// countries takes names of two letters.
func countries(field func(*config) *country.List) kind {
	return kind{"two letters each, separated by commas or blanks: `US, CA`", func(c *config, v string) (err error) {
		*field(c), err = country.Parse(v)
		return err
	}}
}

// networks takes CIDRs, and single addresses for networks of one.
func networks(field func(*config) *[]netip.Prefix) kind {
	return kind{"networks separated by commas or blanks: `10.0.0.0/8, 127.0.0.1/32`", func(c *config, v string) error {
		var list []netip.Prefix
		for _, word := range listed(v) {
			p, err := netip.ParsePrefix(word)
			if a, aerr := netip.ParseAddr(word); aerr == nil {
				p, err = netip.PrefixFrom(a, a.BitLen()), nil
			}
			if err != nil {
				return fmt.Errorf("%q is not a network", word)
			}
			list = append(list, p.Masked())
		}
		*field(c) = list
		return nil
	}}
}

// postgresURL takes the URL of a database. A pool of that URL needs as many
// connections as leastPool.
func postgresURL(field func(*config) *dispatch.Secret, leastPool int32) kind {
	const accepts = "a Postgres URL such as `postgres://user:password@host:5432/database?sslmode=verify-full`, or `key=value` pairs; `pool_*` parameters may be in it"
	return checked(secret(field, accepts), func(v string) error {
		pc, err := parseDatabase(dispatch.Secret(v), false)
		if err == nil && pc.MaxConns < leastPool {
			err = fmt.Errorf("has pool_max_conns=%d; needed are at least %d", pc.MaxConns, leastPool)
		}
		if err == nil {
			switch mode := pc.ConnConfig.DefaultQueryExecMode; mode {
			case pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol:
				err = fmt.Errorf("has default_query_exec_mode=%s, which cannot carry arrays; behind an old transaction pooler use cache_describe", strings.ReplaceAll(mode.String(), " ", "_"))
			}
		}
		return err
	})
}
