package listener

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// storage is what a listener asks of the tables. Each method is one transaction, and
// store is the one that there is; the simulation has another one in memory, which
// is held against this one.
type storage interface {
	ttl() time.Duration // how long a claim lasts without renewal
	payloadLimit() int  // bytes of text; larger payloads are refused
	onDue(func())       // is called when a transaction of ours made something due

	claimEvents(ctx context.Context, lower, upper int64, limit, times int) (claims []claimed, full bool, err error)
	claimDue(ctx context.Context, limit int) (*lease, []*job, error)
	adopt(ctx context.Context, e *event) ([]known, error)
	loadPayload(ctx context.Context, seq int64) (text []byte, size int, err error)
	hastenEvents(ctx context.Context, typ string, lower, upper int64, most int) (last int64, err error)
	nextDue(ctx context.Context, beatTo string) (floor int64, paused pauses, due time.Duration, waits bool, err error)
	renew(ctx context.Context, events []*event, jobs []*job) (keptLeases, error)
	release(ctx context.Context, events []*event, jobs []*job) (locked int, err error)
	readFlight(ctx context.Context) (highest int64, inFlight map[string]struct{}, err error)
	raiseFloor(ctx context.Context, upTo int64) (floor int64, err error)

	announce(ctx context.Context, batch []announcement) (map[uuid.UUID]bool, error)
	freeze(ctx context.Context, entries []entry) (kept map[int64]bool, canceled map[uuid.UUID]string, err error)
	disown(ctx context.Context, jobs []*job) error
	passTurns(ctx context.Context, lines, types []string) (again []string, err error)
	stalledLines(ctx context.Context, after string, most int) (stalled []string, last string, err error)
	freezeDelivery(ctx context.Context, j *job) (kept bool, err error)
	stepResults(ctx context.Context, j *job) (map[string]dispatch.StepResult, error)

	recordEvents(ctx context.Context, entries []entry) (map[int64]bool, error)
	recordFresh(ctx context.Context, entries []entry) (map[int64]bool, error)
	recordOrphans(ctx context.Context, entries []entry) (map[uuid.UUID]bool, error)
	recordDeliveries(ctx context.Context, entries []entry) (map[uuid.UUID]bool, error)
	recordSQL(ctx context.Context, j *job, c dispatch.SQL, cfg SQLConfig) (kept bool, err error)
	busyEvents(ctx context.Context, entries []entry) (map[int64]bool, error)

	traces(ctx context.Context, j *job) (traces, error)
	alike(ctx context.Context, j *job, likeness int32, since time.Duration) ([]dispatch.Claimant, error)
	noteLook(ctx context.Context, j *job, likeness int32, v dispatch.Verdict, r dispatch.Receipt, why string) (kept bool, err error)
	noteReport(ctx context.Context, r dispatch.Report) (noted, error)
	standing(ctx context.Context, j *job) (dispatch.Standing, error)

	noteCrashes(ctx context.Context, ids, origins uuids, most int) (map[uuid.UUID]int, error)
	readCrashes(ctx context.Context, ids uuids) (map[uuid.UUID]int, error)
	forgetCrashes(ctx context.Context, ids uuids) error
	tryAlone(ctx context.Context, id uuid.UUID, alone bool) error

	prune(ctx context.Context, p *pruner, from int64) (pruned, error)
	resume(ctx context.Context, reasons []string) (total int64, err error)
	resumeBraked(ctx context.Context, reason string, rate int, ahead time.Duration) (resumed, error)
	onRead(*brakes) // is told what claims and sweeps bring of brakes
	readBrakes(ctx context.Context) (rows []onBrake, err error)
	changeBrakes(ctx context.Context, n news) (fresh []string, over map[string]time.Duration, now []onBrake, err error)
	askProbe(ctx context.Context, destination string) (a asked, err error)
	reserve(ctx context.Context, all []wish, forget bool) (map[string]grant, error)
	holdKept(ctx context.Context, jobs []*job) error
	identify(ctx context.Context) (id string, err error) // which database it is
	countSMS(ctx context.Context, to string, limits SMSLimits) (over string, err error)
	uncountSMS(ctx context.Context, to string, limits SMSLimits) error // what was counted and did not leave
}

func (s *store) ttl() time.Duration { return s.lease }
func (s *store) payloadLimit() int  { return s.maxPayload }
func (s *store) onDue(f func())     { s.due = f }
func (s *store) onRead(b *brakes)   { s.brakes = b }
