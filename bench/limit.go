package bench

import (
	"context"
	"fmt"
)

// limit shows what of a drain the writing of the rows alone would allow on this
// machine: the script, over one connection and over as many as keep all
// processors busy. It is beside the listener and River in the same rounds, so
// that their ratios to it are of one run. It has no target: it says what a target
// can be.
func limit(ctx context.Context, r *run, res *result) error {
	n := r.size(200_000)
	const size = 1000
	res.note(drainMethod)
	res.note(scriptMethod)
	res.note("%s events of %d bytes, batch %d. With several connections each has a range of the numbers of its own, and all begin at once.", number(float64(n)), payload, size)
	our := oursAt(size)
	variants := []variant{{our, func() (float64, error) { return r.drainOurs(ctx, n, payload, batch(size)) }}}
	if p := r.peer(river); p != nil {
		variants = append(variants, variant{river, func() (float64, error) { return p.drain(ctx, r.server, n, payload, "") }})
	}
	var scripts []string
	for connections := 1; connections <= 3; connections++ {
		label := "limit: script with 1 connection"
		if connections > 1 {
			label = fmt.Sprintf("limit: script with %d connections", connections)
		}
		scripts = append(scripts, label)
		variants = append(variants, variant{label, func() (float64, error) { return r.runScript(ctx, n, size, connections) }})
	}
	if err := r.compare(res, "events/s", r.Rounds, variants); err != nil {
		return err
	}
	for _, label := range scripts {
		res.each(label+" / River", "x", ratios(res.values(label), res.values(river)))
		res.each("listener / "+label, "x", ratios(res.values(our), res.values(label)))
	}
	res.each("listener / River", "x", ratios(res.values(our), res.values(river)))
	return nil
}
