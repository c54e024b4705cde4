package model

// Action is the name of a step.
type Action string

// The actions of listeners, in the order of a delivery's life.
const (
	Claim          Action = "claim"
	ClaimUnheard   Action = "claim, answer lost"
	TakeOver       Action = "take over"
	ClaimDue       Action = "claim what is due"
	ClaimDueLost   Action = "claim what is due, answer lost"
	TakeOverDue    Action = "take over what was being sent"
	GiveBack       Action = "give back"
	Untouched      Action = "give back what was not begun"
	Plan           Action = "plan"
	Adopt          Action = "adopt"
	Freeze         Action = "freeze"
	FreezeUnheard  Action = "freeze, answer lost"
	FreezeFenced   Action = "freeze, fenced off"
	Decide         Action = "decide without an attempt"
	Start          Action = "start"
	GiveUp         Action = "give up"
	HandBack       Action = "hand back, since the lease is over"
	Announce       Action = "announce"
	AnnounceLost   Action = "announce, answer lost"
	AnnounceFenced Action = "announce, fenced off"
	Check          Action = "look at the lease"
	NotSent        Action = "cannot connect"
	Send           Action = "send"
	Reply          Action = "reply"
	ReplyLost      Action = "reply lost"
	CutShort       Action = "cut short by the shutdown"
	Look           Action = "look at the provider"
	LookFails      Action = "look at the provider, no answer"
	LookFenced     Action = "look at the provider, fenced off"
	Note           Action = "note the look"
	NoteLost       Action = "note the look, answer lost"
	Record         Action = "record"
	RecordLost     Action = "record, answer lost"
	RecordFenced   Action = "record, fenced off"
	Park           Action = "park"
	ParkCommits    Action = "park commits"
	ParkLost       Action = "park commits, answer lost"
	ParkFenced     Action = "park, fenced off"
	Renew          Action = "renew"
	RenewFenced    Action = "renew, fenced off"
)

// The actions of providers.
const (
	Accepts      Action = "provider accepts"
	Refuses      Action = "provider refuses"
	IsBusy       Action = "provider is busy"
	AcceptsLate  Action = "provider accepts what nobody waits for"
	VanishesLate Action = "what nobody waits for is lost"
)

// The actions of time, and the faults.
const (
	RunsOutHere  Action = "lease runs out, by the listener's clock"
	RunsOutEvent Action = "lease of the event runs out"
	RunsOutRow   Action = "lease of the delivery runs out"
	ComesDue     Action = "delivery comes due"
	Pause        Action = "pause past the lease"
	Crash        Action = "crash"
)

// faults are the actions without which everything has to come to its end all the
// same.
var faults = map[Action]bool{
	ClaimUnheard: true, ClaimDueLost: true, FreezeUnheard: true, AnnounceLost: true, NotSent: true, ReplyLost: true, CutShort: true,
	LookFails: true, NoteLost: true, RecordLost: true, ParkLost: true, Pause: true, Crash: true, IsBusy: true, GiveUp: true, GiveBack: true,
}

// actions are all of them.
func actions() []Action {
	return []Action{
		Claim, ClaimUnheard, TakeOver, ClaimDue, ClaimDueLost, TakeOverDue,
		GiveBack, Untouched, Plan, Adopt, Freeze, FreezeUnheard,
		FreezeFenced, Decide, Start, GiveUp, HandBack, Announce,
		AnnounceLost, AnnounceFenced, Check, NotSent, Send, Reply,
		ReplyLost, CutShort, Look, LookFails, LookFenced, Note,
		NoteLost, Record, RecordLost, RecordFenced, Park, ParkCommits,
		ParkLost, ParkFenced, Renew, RenewFenced, Accepts, Refuses,
		IsBusy, AcceptsLate, VanishesLate, RunsOutHere, RunsOutEvent, RunsOutRow,
		ComesDue, Pause, Crash,
	}
}
