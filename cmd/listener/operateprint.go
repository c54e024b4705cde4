package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// printDeliveries prints a list for people.
func printDeliveries(w io.Writer, list []operate.Delivery) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no deliveries")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DELIVERY\tEVENT TYPE\tCHANNEL\tTO\tSTATE\tSINCE\tATTEMPTS\tLAST ERROR")
	for _, d := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", d.ID, word(d.Type), word(d.Channel), word(d.Recipient), standing(d),
			d.Since.UTC().Format("2006-01-02 15:04:05Z"), d.Attempts, word(short100(oneLine(d.Error))))
	}
	_ = t.Flush() // to whoever has gone meanwhile
}

// standing is where d stands, and what its provider reported since it took it.
func standing(d operate.Delivery) string {
	if d.Receipt == "" || d.Receipt == dispatch.FateDelivered && d.State == dispatch.Delivered {
		return string(d.State)
	}
	return strings.TrimSpace(fmt.Sprintf("%s (%s %s", d.State, d.Receipt, d.ReceiptCode)) + ")"
}

// word is s in a column.
func word(s string) string { return cmp.Or(printable(s), "-") }

// deliveries is n of them in words.
func deliveries(n int) string {
	if n == 1 {
		return "1 delivery"
	}
	return fmt.Sprintf("%d deliveries", n)
}

// verbs are what was done, and what would be.
var verbs = map[operate.Action]string{
	operate.Replay: "replayed", operate.Cancel: "canceled", operate.Hold: "held", operate.Release: "released",
}

func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// printPlan says what will be done if it is confirmed.
func printPlan(w io.Writer, a operate.Action, res operate.Result) {
	fmt.Fprintf(w, "%s found, %d to be %s\n", deliveries(res.Matched), res.Done, verbs[a])
	printRefused(w, res)
}

// printChange says what was done.
func printChange(w io.Writer, r operate.Request, dry bool, res operate.Result) {
	if dry {
		printPlan(w, r.Action, res)
		return
	}
	fmt.Fprintf(w, "%s %s\n", verbs[r.Action], deliveries(res.Done))
	if r.Action == operate.Replay && r.Rate > 0 && res.Done > 1 {
		fmt.Fprintf(w, "due within %s, %g a second\n", time.Duration(float64(res.Done-1)/r.Rate*float64(time.Second)).Round(time.Second), r.Rate)
	}
	if r.Action == operate.Replay && len(res.New) == 1 {
		fmt.Fprintf(w, "the new one is %s\n", res.New[0])
	}
	printRefused(w, res)
}

func printRefused(w io.Writer, res operate.Result) {
	var lines strings.Builder
	for _, r := range res.Refused {
		fmt.Fprintf(&lines, "  %d: %s\n", r.Count, r.Reason)
	}
	if lines.Len() > 0 {
		fmt.Fprintf(w, "left alone:\n%s", lines.String())
	}
}
