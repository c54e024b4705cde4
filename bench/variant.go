package bench

import (
	"context"
	"slices"
)

// A variant is one of the things that a scenario compares.
type variant struct {
	label   string
	measure func() (float64, error)
}

// compare measures the variants in every round, and adds what they return.
func (r *run) compare(res *result, unit string, rounds int, variants []variant) error {
	for round := range rounds {
		for _, v := range inTurn(round, variants) {
			value, err := v.measure()
			if err != nil {
				return err
			}
			res.add(v.label, unit, value)
		}
	}
	return nil
}

// inTurn returns the variants in the order of that round, counted from 0:
// ABC, BCA, CAB. So none of them is always the first after what precedes a
// round, or always after the same other one.
func inTurn[T any](round int, variants []T) []T {
	first := round % len(variants)
	return slices.Concat(variants[first:], variants[:first])
}

// atRest runs f with a migrated database in which nothing is left to do.
func (s *server) atRest(ctx context.Context, f func(*database) error) error {
	db, err := s.migrated(ctx)
	if err != nil {
		return err
	}
	defer db.drop()
	if err := db.settle(ctx); err != nil {
		return err
	}
	return f(db)
}

// receiving is atRest with a receiver beside it, of the numbers from 0 to n-1,
// which tells of each as it comes.
func (r *run) receiving(ctx context.Context, n int, f func(*database, *sink) error) error {
	to, err := startSink(&sink{at: arrivals(n), C: make(chan int, n)})
	if err != nil {
		return err
	}
	defer to.close()
	return r.server.atRest(ctx, func(db *database) error { return f(db, to) })
}
