//go:build unix

package faultrig

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Secrets of listeners that nothing but these lines has, beside those of the providers.
const (
	passwordCanary = "faultrig-password"  // of the database, which asks for none
	urlCanary      = "faultrig-url-token" // which is content: no secret may be a part of it
)

// secrets are what stands nowhere but in the environment of listeners.
var secrets = map[string]string{
	"TWILIO_AUTH_TOKEN":                authToken,
	"OPENAI_API_KEY":                   openAIKey,
	"OUTBOX_WEBHOOK_SECRET":            strings.TrimPrefix(webhookSecret, "whsec_"),
	"the key of OUTBOX_WEBHOOK_SECRET": "a secret of the fault rig's own",
	"the password of DATABASE_URL":     passwordCanary,
}

// private is what events have in their payloads, and may stand in what is frozen of them.
var private = map[string]string{
	"a number":             "15005550009",
	"an address":           "ann@example.com",
	"what a URL has":       urlCanary,
	"the words of a model": "the words of answer",
}

// leaks names what stands in a text that may not: secrets, also in base64 or as in a URL, and,
// unless it is content, what is private.
func leaks(text string, content bool) (found []string) {
	for name, secret := range secrets {
		for _, form := range []string{secret, url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret))} {
			if strings.Contains(text, form) {
				found = append(found, name)
				break
			}
		}
	}
	if content {
		return found
	}
	for name, value := range private {
		if strings.Contains(text, value) {
			found = append(found, name)
		}
	}
	if marked.MatchString(text) { // events are named by their ids, and in content with these marks
		found = append(found, "the words of an event")
	}
	slices.Sort(found)
	return found
}

// Said is a line of a listener's log.
type Said struct {
	Process string
	At      time.Time // by the clock of its host
	Msg     string
	About   string // the channel, destination, table or file that it is about; "" for none
	Outcome string // of a delivery
	Verdict string // of a look
	Batch   int    // events that it tells of
}

// told says whether a line is one of those that there may be many of in a second: what was delivered has
// one each, and what waits for a person, each look that was answered, each batch, and each
// LISTEN session.
func (s Said) told() bool {
	return s.Batch > 0 || s.Outcome != "" && s.Outcome != "retry" && s.Outcome != "uncertain" ||
		s.Verdict != "" && s.Verdict != "failed" || s.Msg == "listening"
}

// by is how lines of a process begin in the log of a run.
var by = regexp.MustCompile(`^\S+ (d\d+\.\d+) (.*)`)

// heard returns what the listeners logged, and what of it they may not.
func (r *run) heard() (said []Said, leaked []string, err error) {
	file, err := os.Open(filepath.Join(r.dir, "log.txt"))
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m := by.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		for _, what := range leaks(m[2], false) {
			leaked = append(leaked, fmt.Sprintf("%s in the log of %s: %s", what, m[1], m[2]))
		}
		var one struct {
			Time    time.Time
			Msg     string
			Outcome string
			Verdict string
			Total   int

			Channel, Destination, Table, File string
		}
		if json.Unmarshal([]byte(m[2]), &one) == nil { // or it is of a failpoint, or a stack
			said = append(said, Said{Process: m[1], At: one.Time, Msg: one.Msg, About: one.Channel + one.Destination + one.Table + one.File,
				Outcome: one.Outcome, Verdict: one.Verdict, Batch: one.Total})
		}
	}
	return said, leaked, lines.Err()
}

// stored names what the tables have that they may not. What is frozen of an event, and
// the answers to it, are its content.
func (r *run) stored(ctx context.Context) (leaked []string, err error) {
	type row struct {
		What          string
		Content, Rest string
	}
	rows, err := all[row](ctx, r, `
		select 'a delivery', to_jsonb(d)::text, (to_jsonb(d) - 'content' - 'scope' - 'answer')::text from outbox.deliveries as d where event_type not like 'old.%'
		union all select 'an attempt', '', to_jsonb(a)::text from outbox.attempts as a
		union all select 'a brake', '', to_jsonb(b)::text from outbox.brakes as b
		union all select 'a pause', '', to_jsonb(p)::text from outbox.pauses as p`)
	if err != nil {
		return nil, err
	}
	for _, one := range rows {
		for _, what := range append(leaks(one.Content, true), leaks(one.Rest, false)...) {
			leaked = append(leaked, fmt.Sprintf("%s in %s: %s", what, one.What, one.Rest))
		}
	}
	return leaked, nil
}

// quietly is O9 and O10 about what listeners say: no secret, and of what goes on no more than a line a
// second of one message about one thing.
func (c *check) quietly() {
	for _, l := range c.Leaks {
		c.problem("O9", uuid.Nil, "%s", l)
	}
	type cause struct{ process, msg, about string }
	last := map[cause]time.Time{}
	for _, s := range c.Said {
		if s.told() {
			continue
		}
		at := cause{s.Process, s.Msg, s.About}
		before, known := last[at]
		if known && s.At.Sub(before) < time.Second-50*time.Millisecond && !c.spokeLate(s.Process, before) {
			c.problem("O10", uuid.Nil, "%s said %q of %q again %s after the last time", s.Process, s.Msg, s.About, s.At.Sub(before).Round(time.Millisecond))
		}
		last[at] = s.At
	}
}

// spokeLate says whether a process stood still until just before it said something at that moment: it may
// have made up its mind to when that began.
func (c *check) spokeLate(process string, at time.Time) bool {
	return slices.ContainsFunc(c.Evidence.Faults, func(f Fault) bool {
		return f.still() && f.upon(map[string]bool{process: true}) && f.during(at.Add(-nearby), at)
	})
}

// pauseFirst is how long an outcome waits for the pause that it asks for to be on record, as it is in the listener. What is
// on record sooner has not waited in vain.
const pauseFirst = 2 * time.Second

// heeded is O10 about a provider that asked for a pause: once the outcome that says so is on record nobody calls it
// before that is over, a second apart in which others hear of it.
func (c *check) heeded() {
	recorded := map[place][]time.Time{}
	for _, a := range c.Attempts {
		if a.Kind == "throttled" {
			at := c.placeOf(a.Delivery)
			recorded[at] = append(recorded[at], a.At)
		}
	}
	for at, mishaps := range c.mishaps {
		for _, asked := range mishaps {
			heard := c.heard(at, asked, recorded[at])
			if asked.Wait == 0 || heard.IsZero() {
				continue
			}
			from, to := heard.Add(time.Second+nearby+c.farther(asked)), asked.At.Add(time.Duration(asked.Wait)*time.Second-nearby)
			if !from.Before(to) {
				continue
			}
			c.Paused++
			for _, l := range c.Provided {
				if l.Channel == at.channel && l.At.After(from) && l.At.Before(to) && !c.deaf(asked.At, l) {
					c.problem("O10", at.event, "%s asked for %d s, and %s after that there was a call for event %s", at.channel, asked.Wait, l.At.Sub(asked.At).Round(time.Millisecond), l.Event)
				}
			}
		}
	}
}

// heard says since when others may hear of what one was asked for: since its outcome was on record, at
// the latest. Zero: that is not on record, or so late that it may have waited in vain for the database; or there was
// another attempt before, of which it may be.
func (c *check) heard(at place, asked Line, recorded []time.Time) (since time.Time) {
	for _, r := range recorded {
		if r.After(asked.At) && r.Before(asked.At.Add(pauseFirst)) && (since.IsZero() || r.Before(since)) {
			since = r
		}
	}
	another := func(l Line) bool { return l.At.After(asked.At) && l.At.Before(since) }
	if slices.ContainsFunc(c.mishaps[at], another) || slices.ContainsFunc(c.accepted[at], another) {
		return time.Time{}
	}
	return since
}

// placeOf is where a delivery goes; the zero place where it is in no ledger.
func (c *check) placeOf(delivery uuid.UUID) place {
	for _, d := range c.Evidence.Deliveries {
		if d.ID == delivery {
			return place{d.Event, d.Channel}
		}
	}
	return place{}
}

// farther is how much later others hear of a pause since its provider was far away: so much it takes
// until the answer is there, and a request that was on its way.
func (c *check) farther(asked Line) time.Duration {
	for _, f := range c.Evidence.Faults {
		if f.Kind == SlowProvider && f.Channel == asked.Channel && f.during(asked.At.Add(-nearby), asked.At.Add(time.Second+nearby)) {
			return 2 * farAway
		}
	}
	return 0
}

// deaf says whether who may have made a call had it since before it stood still, or since before the
// database was away from it, and that was over less than a second before: so it could not have heard of
// what another was asked for at a moment. What is claimed since then is claimed with a reading of the brakes.
func (c *check) deaf(asked time.Time, call Line) bool {
	event, _ := uuid.Parse(call.Event) // one that is none is in no ledger
	return slices.ContainsFunc(c.Evidence.Faults, func(f Fault) bool {
		switch {
		case f.still():
		case f.Kind == RestartFast, f.Kind == RestartCrash, f.Kind == SwallowDatabase, f.Kind == TerminateAway:
		default:
			return false
		}
		if f.To.Before(asked) || f.From.After(call.At) || call.At.After(f.To.Add(time.Second+nearby)) {
			return false
		}
		return slices.ContainsFunc(c.deliveries[event], func(d DeliveryRow) bool {
			return d.Channel == call.Channel && c.had(f, d, f.To)
		})
	})
}

// unharmed is O11: an insert of a producer does not fail, and none waits for listeners, unless a fault
// came upon the server.
func (c *check) unharmed() {
	var took []time.Duration
	for _, i := range c.Inserts {
		if slices.ContainsFunc(c.Evidence.Faults, func(f Fault) bool {
			server := f.Kind == RestartFast || f.Kind == RestartCrash || f.Kind == Slow
			return server && f.during(i.At.Add(-nearby), i.At.Add(i.Took+nearby))
		}) {
			continue
		}
		if i.Err != "" {
			c.problem("O11", uuid.Nil, "an insert failed: %s", i.Err)
			continue
		}
		took = append(took, i.Took)
	}
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	c.InsertP99, c.InsertMost = took[len(took)*99/100], took[len(took)-1]
	if limit := c.insertLimit(); c.InsertP99 > limit {
		c.problem("O11", uuid.Nil, "one insert of a hundred took %s; the limit is %s", c.InsertP99.Round(time.Millisecond), limit)
	}
}

// insertLimit is how long one insert of a hundred may take: any wait for a listener lasts
// longer, for a lease or for as long as somebody stands still.
func (ev *Evidence) insertLimit() time.Duration {
	if ev.QuietLimit > 0 {
		return max(ev.Plan.Lease/4, time.Second/2) // what takes longer is a fault of the machine: see run.watch
	}
	return 2 * time.Second
}
