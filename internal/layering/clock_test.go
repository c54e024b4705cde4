package layering

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// elapsed is the reason of most: what is compared or subtracted was read in this
// process, too, so that Go uses the monotonic clock and the time of day has no part in
// it.
const elapsed = "how long something takes in this process"

// hostClock is every function that asks the host what time it is, in the packages
// that read or write the tables or decide what becomes of a delivery, with the reason
// why it may. All times on record, and all that are compared with them, are the
// database's: hosts whose clocks differ must not decide differently. A new one needs
// a line here.
var hostClock = map[string]string{
	"listener/attempt.go Listener.attempt":            elapsed,
	"listener/batcher.go batcher.run":                 elapsed,
	"listener/brakekeeper.go Listener.readBrakes":     elapsed,
	"listener/overflow.go queue.behind":               elapsed,
	"listener/recovery.go Listener.resumeBraked":      elapsed,
	"listener/recovery.go recovery.again":             elapsed,
	"listener/recovery.go recovery.due":               elapsed,
	"listener/recovery.go recovery.next":              elapsed,
	"listener/recovery.go recovery.ready":             elapsed,
	"listener/recovery.go recovery.seen":              elapsed,
	"listener/recovery.go recovery.slow":              elapsed,
	"listener/recovery.go recovery.took":              elapsed,
	"listener/brakekeeper.go Listener.tell":           elapsed,
	"listener/brakekeeper.go brakes.old":              elapsed,
	"listener/brakekeeper.go brakes.read":             elapsed,
	"listener/brakekeeper.go brakes.told":             elapsed,
	"listener/brakekeeper.go store.changeBrakes":      elapsed,
	"listener/brakekeeper.go store.readAlong":         elapsed,
	"listener/brakes.go Listener.braked":              elapsed,
	"listener/brakes.go brakes.answered":              elapsed,
	"listener/brakes.go brakes.granted":               elapsed,
	"listener/brakes.go brakes.hush":                  elapsed,
	"listener/brakes.go brakes.notTaken":              elapsed,
	"listener/brakes.go brakes.pass":                  elapsed,
	"listener/brakes.go brakes.refused":               elapsed,
	"listener/brakes.go brakes.shut":                  elapsed,
	"listener/brakes.go brakes.put":                   elapsed,
	"listener/leftover.go brakes.leftover":            elapsed,
	"listener/claim.go store.nextDue":                 elapsed,
	"listener/destination.go destination.free":        elapsed,
	"listener/ratekeeper.go Listener.keepRates":       elapsed,
	"listener/record.go recorder.failedWithin":        elapsed,
	"listener/record.go trouble.end":                  elapsed,
	"listener/ratekeeper.go Listener.putOffSurplus":   elapsed,
	"listener/claim.go store.claimDue":                elapsed,
	"listener/claim.go store.newClaiming":             elapsed,
	"listener/drive.go Listener.awaitRoom":            elapsed,
	"listener/drive.go Listener.drive":                elapsed,
	"listener/drive.go Listener.goToSleep":            elapsed,
	"listener/drive.go Listener.nextSweep":            elapsed,
	"listener/drive.go Listener.noteDue":              elapsed,
	"listener/drive.go Listener.putOffDue":            elapsed,
	"listener/drive.go Listener.round":                elapsed,
	"listener/drive.go Listener.sleep":                elapsed,
	"listener/drive.go Listener.sweep":                "when it last swept, for probes of this process; and " + elapsed,
	"listener/drive.go looker.look":                   elapsed,
	"listener/freeze.go Listener.thaw":                "only when to look next: the database says what is due then, and each sweep asks it",
	"listener/hasten.go Listener.bringForward":        elapsed,
	"listener/hasten.go Listener.keepHaste":           elapsed,
	"listener/hasten.go Listener.wellPlanned":         elapsed,
	"listener/lease.go heldFor":                       elapsed,
	"listener/lease.go lease.left":                    elapsed,
	"listener/lease.go tenure.left":                   elapsed,
	"listener/lease.go leases.renew":                  elapsed,
	"listener/lease.go package":                       elapsed,
	"listener/trial.go Listener.awaitLoose":           elapsed,
	"listener/lane.go Listener.beginsNow":             elapsed,
	"listener/lane.go Listener.launchFresh":           elapsed,
	"listener/lane.go Listener.popAlone":              elapsed,
	"listener/lane.go Listener.queueAlone":            elapsed,
	"listener/trial.go Listener.watch":                elapsed,
	"listener/ordering.go Listener.keepLines":         elapsed,
	"listener/stop.go Listener.awaitPool":             elapsed,
	"listener/stop.go Listener.drainPool":             elapsed,
	"listener/log.go batchLog.flush":                  elapsed,
	"listener/log.go sparse.allow":                    elapsed,
	"listener/look.go Listener.look":                  elapsed,
	"listener/marks.go Listener.keepMarks":            elapsed,
	"listener/operate/act.go run.due":                 elapsed,
	"listener/overflow.go queue.overflow":             elapsed,
	"listener/pace.go pace.done":                      elapsed,
	"listener/pool.go Listener.begin":                 elapsed,
	"listener/prune.go Listener.prune":                elapsed,
	"listener/prune.go Listener.pruneBriefly":         elapsed,
	"listener/prune.go Listener.pruneRound":           elapsed,
	"listener/prune.go pruner.round":                  elapsed,
	"listener/putoff.go Listener.putOff":              elapsed,
	"listener/queue.go queue.next":                    elapsed,
	"listener/room.go queue.room":                     elapsed,
	"listener/settle.go Listener.park":                elapsed,
	"listener/settle.go Listener.recordedJob":         elapsed,
	"listener/smslimits.go store.countSMS":            "how often old counts are looked for in this process",
	"listener/sqlstep.go Listener.runSQL":             elapsed,
	"listener/waiting.go queue.begin":                 elapsed,
	"listener/waiting.go queue.left":                  elapsed,
	"listener/waiting.go queue.relax":                 elapsed,
	"listener/wake.go ownHandler.HandleBacklog":       elapsed,
	"listener/wake.go waker.beat":                     elapsed,
	"listener/wake.go waker.beatAlong":                elapsed,
	"listener/wake.go waker.beaten":                   elapsed,
	"listener/wake.go waker.watch":                    elapsed,
	"listener/wake.go wakeHandler.HandleNotification": elapsed,
	"listener/ordering.go Listener.passTurnsSoon":     elapsed,
	"listener/ordering.go lines.areSlow":              elapsed,
	"listener/walk.go stint.rested":                   elapsed,
	"listener/walk.go walk.arrived":                   elapsed,
	"listener/walk.go walk.cameBack":                  elapsed,
	"migrations/backlog.go ParseBacklog":              "an age that a person gives, in their own time: the host's is what they see",
	"migrations/backlog.go session.placeBacklog":      elapsed,
	"migrations/lock.go open":                         elapsed,
	"migrations/lock.go session.retry":                elapsed,
	"migrations/up.go session.applyIndex":             elapsed,
	"dispatch/clock.go Clock.Now":                     "the database's time and what has elapsed since; the host's where nobody said it, as in tests of routes",
	"dispatch/clock.go Clock.Set":                     elapsed,
	"dispatch/httpcall/httpcall.go New":               "of a Retry-After that is a date, where nobody gives it the database's",
	"dispatch/httpcall/tokens.go newTokens":           elapsed,
	"dispatch/openai/openai.go New":                   "of a Retry-After that is a date, where nobody gives it the database's",
	"dispatch/twilio/twilio.go New":                   "of a Retry-After that is a date, where nobody gives it the database's",
	"dispatch/openai/write.go pause":                  elapsed,
	"dispatch/smtp/failure.go ended":                  elapsed,
	"dispatch/smtp/guard.go guard.hurry":              elapsed,
	"dispatch/twilio/find.go lookup.page":             "where Twilio does not say what time it is; and " + elapsed,
	"dispatch/webhook/webhook.go New":                 "of the signature, where nobody gives it the database's",
}

// wallOnly are the methods that drop the monotonic clock of a time.Now().
var wallOnly = []string{"Unix", "UnixMilli", "UnixMicro", "UnixNano", "UTC", "Local", "In", "Round", "Truncate", "Format", "String", "AddDate"}

// TestHostClock: the database's clock is the only one that counts.
func TestHostClock(t *testing.T) {
	found := map[string]bool{}
	var files []string
	for _, pattern := range []string{"listener/*.go", "listener/operate/*.go", "migrations/*.go", "sql/*.go", "dispatch/*.go", "dispatch/*/*.go"} {
		list, err := filepath.Glob("../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, list...)
	}
	for _, path := range files {
		name := strings.TrimPrefix(filepath.ToSlash(path), "../../")
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "dispatch/sendertest/") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			asks, strips := asksHost(decl)
			if asks == 0 {
				continue
			}
			what := name + " " + declared(decl)
			reason, ok := hostClock[what]
			switch {
			case !ok:
				t.Errorf("%s asks the host what time it is; what is on record, and what is compared with it, is by the database's clock (clock_timestamp() in its statement). If this is neither, give the reason in hostClock", what)
			case strips != "" && reason == elapsed:
				t.Errorf("%s: time.Now().%s is the time of day", what, strips)
			}
			found[what] = true
		}
	}
	for what := range hostClock {
		if !found[what] {
			t.Errorf("%s does not ask the host what time it is any more", what)
		}
	}
}

// asksHost counts where n asks the host's clock, and names a method that makes a
// time of day of what it says; "" where there is none.
func asksHost(n ast.Node) (asks int, strips string) {
	ofTime := func(n ast.Node, names ...string) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		pkg, ok := s.X.(*ast.Ident)
		return ok && pkg.Name == "time" && slices.Contains(names, s.Sel.Name)
	}
	ast.Inspect(n, func(n ast.Node) bool {
		if ofTime(n, "Now", "Since", "Until") {
			asks++
		}
		if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains(wallOnly, s.Sel.Name) {
			if call, ok := s.X.(*ast.CallExpr); ok && ofTime(call.Fun, "Now") {
				strips = s.Sel.Name
			}
		}
		return true
	})
	return asks, strips
}

// declared names a declaration: a function, a method, or anything else of the
// package.
func declared(d ast.Decl) string {
	f, ok := d.(*ast.FuncDecl)
	if !ok {
		return "package"
	}
	if f.Recv == nil {
		return f.Name.Name
	}
	of := f.Recv.List[0].Type
	for {
		switch x := of.(type) {
		case *ast.StarExpr:
			of = x.X
		case *ast.IndexExpr:
			of = x.X
		default:
			return fmt.Sprintf("%s.%s", x, f.Name.Name)
		}
	}
}
