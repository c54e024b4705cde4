package model

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/evidence"
)

var (
	all     = flag.Bool("all", false, "explore what takes minutes, too: two looks for an SMS in place of one, and one that was not frozen")
	summary = flag.String("summary", "", "write a page of what was seen to this file")
)

// large are configurations of half a million states and more: an SMS that is looked
// for and was not frozen.
func large(c Config) bool { return c.Policy.OnUnknown == dispatch.Reconcile && !c.Freeze }

// ends are the ways in which a delivery may end, by policy: those that a promise of
// docs/guarantees.md forbids are not among them, and each of the others is seen.
var ends = map[dispatch.OnUnknown][]dispatch.State{
	dispatch.Resend:     {dispatch.Delivered, dispatch.Dead},
	dispatch.Hold:       {dispatch.Delivered, dispatch.Dead, dispatch.Held},
	dispatch.NeverTwice: {dispatch.Delivered, dispatch.Dead},
	dispatch.Reconcile:  {dispatch.Delivered, dispatch.Dead, dispatch.Held},
}

// TestModel goes through every state, for each policy, and sees each action.
func TestModel(t *testing.T) {
	t.Parallel()
	seen := map[Action]int{}
	var lines []string
	states, steps := 0, 0
	for _, c := range Configs() {
		if !*all {
			if large(c) || c.Liar && c.mayResend() {
				continue
			}
			c.Looks = 1
		}
		r := c.Explore()
		if r.Broken != "" {
			t.Errorf("%s: %s\n%s", c, r.Broken, r.Trace)
			continue
		}
		for a, n := range r.Actions {
			seen[a] += n
		}
		states, steps = states+r.States, steps+r.Steps
		t.Logf("%s: %d states, %d steps, at most %d from the start", c, r.States, r.Steps, r.Depth)
		lines = append(lines, fmt.Sprintf("| %s | %d | %d | %d | %s |", c, r.States, r.Steps, r.Depth,
			strings.Join(slices.Sorted(maps.Keys(r.Ends)), "; ")))
		for _, end := range ends[c.Policy.OnUnknown] {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(r.Ends)), func(e string) bool { return strings.HasPrefix(e, string(end)) }) {
				t.Errorf("%s: never ends %s", c, end)
			}
		}
		for end := range r.Ends {
			word, _, _ := strings.Cut(end, ",")
			word, _, _ = strings.Cut(word, " ")
			if !slices.Contains(ends[c.Policy.OnUnknown], dispatch.State(word)) {
				t.Errorf("%s: ends %s", c, end)
			}
		}
	}
	for _, a := range actions() {
		if seen[a] == 0 {
			t.Errorf("never happened: %s", a)
		}
		delete(seen, a)
	}
	for a := range seen {
		t.Errorf("not among the actions: %s", a)
	}
	t.Logf("%d states, %d steps, %d actions", states, steps, len(actions()))
	if *summary != "" {
		page := strings.Join(append(append([]string{fmt.Sprintf(head, evidence.Source())}, lines...),
			fmt.Sprintf("| **all** | **%d** | **%d** | | |\n", states, steps)), "\n")
		if err := os.WriteFile(*summary, []byte(page), 0o644); err != nil {
			t.Error(err)
		}
	}
}

const head = `# Every state of the model

Written by ` + "`just model`, %s" + `. Two listeners, one delivery, at most two attempts, two looks. Each state was visited, each
of the actions seen, and no promise broken; from each state a way leads to an end without further faults.

| policy | states | steps | longest way | ends |
|---|---:|---:|---:|---|`

// TestMutants: faults in the protocol, each of which breaks a promise that the model
// then finds broken.
func TestMutants(t *testing.T) {
	t.Parallel()
	const (
		fence  = "under an old fence"
		bare   = "more often than faults excuse"
		twice  = "submitted again"
		unsaid = "no person said so"
		stuck  = "no way leads to an end"
	)
	resend := dispatch.Policy{OnUnknown: dispatch.Resend}
	never := dispatch.Policy{OnUnknown: dispatch.NeverTwice, Announce: true}
	hold := dispatch.Policy{OnUnknown: dispatch.Hold, Announce: true}
	look := dispatch.Policy{OnUnknown: dispatch.Reconcile, IfNotFound: dispatch.Resend, Announce: true}
	for _, tt := range []struct {
		Mutant
		policy dispatch.Policy
		freeze bool
		want   string
	}{
		{ClaimsWhatIsLeased, resend, false, bare},
		{RecordsUnfenced, resend, false, fence},
		{RecordsUnfenced, never, true, fence},
		{AnnouncesUnfenced, never, false, fence},
		{AnnouncesUnfenced, hold, true, fence},
		{RenewsUnfenced, resend, false, fence},
		{LooksUnfenced, look, true, fence},
		{SendsFirst, never, false, twice},
		{SendsFirst, hold, true, unsaid},
		{UnknownIsNotSent, never, false, twice},
		{UnknownIsNotSent, hold, false, unsaid},
		{UnknownIsNotSent, look, true, "dead, and it was accepted"},
		{SendingIsReady, never, false, twice},
		{SendingIsReady, never, true, twice},
		{BeginsWithoutLease, resend, false, bare},
		{FirstLookDecides, look, true, "dead, and it was accepted"},
		{AdoptsNothing, never, false, "delivery is not over"},
		{SettlesNothing, resend, false, "whose delivery is over"},
		{ParksForEver, resend, false, stuck},
		{GivesBackWhatLeft, never, false, twice},
		{AnnouncesParking, never, false, twice},
		{AnnouncesParking, hold, false, unsaid},
		{RecordsWhatIsTaken, never, false, "whose delivery is over"},
	} {
		t.Run(string(tt.Mutant)+", "+string(tt.policy.OnUnknown), func(t *testing.T) {
			t.Parallel()
			c := Config{Policy: tt.policy, Freeze: tt.freeze, Limit: 2, Looks: 2, Wrong: tt.Mutant}
			r := c.Explore()
			if !strings.Contains(r.Broken, tt.want) {
				t.Fatalf("%d states, broken: %q; want %q\n%s", r.States, r.Broken, tt.want, r.Trace)
			}
			t.Logf("%s, after %d states:\n%s", r.Broken, r.States, r.Trace)
		})
	}
}
