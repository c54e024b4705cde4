package model

import (
	"fmt"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// Config is what one exploration is about.
type Config struct {
	Policy dispatch.Policy // Announce is set as listener.policy sets it
	Freeze bool            // its route has it frozen before anything is sent
	Liar   bool            // what the list lacks may have been taken, at any look
	Limit  int             // most attempts
	Looks  int             // answers after which the looks are over
	Wrong  Mutant          // what is done wrong on purpose; "" for nothing
}

// Configs are all that the protocol distinguishes.
func Configs() []Config {
	var all []Config
	for _, p := range []dispatch.Policy{
		{OnUnknown: dispatch.Resend},
		{OnUnknown: dispatch.Resend, Announce: true},
		{OnUnknown: dispatch.Hold},
		{OnUnknown: dispatch.NeverTwice},
		{OnUnknown: dispatch.Reconcile, IfNotFound: dispatch.Hold},
		{OnUnknown: dispatch.Reconcile, IfNotFound: dispatch.Resend},
	} {
		p.Announce = p.Announce || p.OnUnknown != dispatch.Resend
		for _, freeze := range []bool{false, true} {
			c := Config{Policy: p, Freeze: freeze, Limit: 2, Looks: 2}
			all = append(all, c)
			if p.OnUnknown == dispatch.Reconcile {
				c.Liar = true
				all = append(all, c)
			}
		}
	}
	return all
}

func (c Config) String() string {
	s := string(c.Policy.OnUnknown)
	if c.Policy.OnUnknown == dispatch.Reconcile {
		s += " then " + string(c.Policy.IfNotFound)
		if c.Liar {
			s += ", the list lies"
		}
	}
	switch {
	case c.Freeze && c.Policy.Announce:
		s += ", frozen and announced"
	case c.Freeze:
		s += ", frozen"
	case c.Policy.Announce:
		s += ", announced"
	default:
		s += ", recorded whole"
	}
	if c.Wrong != "" {
		s += fmt.Sprintf(" (%s)", c.Wrong)
	}
	return s
}

// Mutant is a fault in the protocol, which an exploration has to find.
type Mutant string

// The mutants.
const (
	ClaimsWhatIsLeased Mutant = "claims what is leased"
	RecordsUnfenced    Mutant = "records without the fence"
	AnnouncesUnfenced  Mutant = "announces without the fence"
	RenewsUnfenced     Mutant = "renews without the fence"
	LooksUnfenced      Mutant = "notes a look without the fence"
	SendsFirst         Mutant = "sends before it announces"
	UnknownIsNotSent   Mutant = "takes no answer for not sent"
	SendingIsReady     Mutant = "takes over what is sending as ready"
	BeginsWithoutLease Mutant = "begins without a look at the lease"
	FirstLookDecides   Mutant = "decides at the first look"
	AdoptsNothing      Mutant = "leaves rows to their former holder"
	SettlesNothing     Mutant = "leaves the event open once its delivery is over"
	ParksForEver       Mutant = "parks without a due time"
	GivesBackWhatLeft  Mutant = "gives back what has left"
	AnnouncesParking   Mutant = "announces while its event is being parked"
	RecordsWhatIsTaken Mutant = "records what was taken over with its event"
)
