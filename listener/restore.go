package listener

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/internal/failpoint"
)

// restore puts on record what an earlier stop could not, before anything is claimed:
// a claim would fence it off. It waits for the database where patient, and otherwise
// returns its error. What is wrong with a file is logged, and keeps nothing back.
func (l *Listener) restore(ctx context.Context, patient bool) error {
	if l.cfg.StateDir == "" {
		return nil
	}
	for try := 1; ; try++ {
		id, err := l.store.identify(ctx)
		if err == nil {
			l.database = id
			break
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case !patient:
			return err
		}
		l.sparse.warn("cannot ask which database this is; trying again", err)
		wait(ctx, pause(try))
	}
	dir := spoolDir(l.cfg.StateDir)
	paths, err := dir.list()
	if err = errors.Join(err, dir.probe()); err != nil {
		l.log.Error("the state directory cannot be used; outcomes that cannot be recorded at a stop will be lost", "dir", l.cfg.StateDir, "error", err)
	}
	// What is on its own is held from the start: recording what comes before it may take longer than is left of its lease.
	var files []*keptFile
	for _, path := range paths {
		if f := l.openFile(dir, path); f != nil {
			f.pauses = l.brakes.restore(f.replay.pauses)
			files = append(files, f)
			f.replay.hold(ctx)
			var holding context.Context
			holding, f.let = context.WithCancel(ctx)
			l.restoring.Go(func() { f.replay.keep(holding) })
		}
	}
	l.tellFirst(ctx, files)
	// One beside the other: the events of one, whose leases may end at any moment, do not wait for a row of another that somebody has
	// locked. What is not recorded when ctx ends is there at the next start.
	var starting sync.WaitGroup
	for _, f := range files {
		starting.Go(func() { l.restoreFile(ctx, f) })
	}
	starting.Wait()
	return nil
}

// keptFile is one file of outcomes.
type keptFile struct {
	dir     spoolDir
	path    string
	refused []refusedLine
	records int
	replay  *replay
	pauses  []<-chan struct{}  // each is closed once it is on record
	let     context.CancelFunc // ends what holds its deliveries
}

// tellFirst has the pauses of files put on record, before the outcomes that asked for them. Where that takes long it goes on
// beside them, as it would have when they came.
func (l *Listener) tellFirst(ctx context.Context, files []*keptFile) {
	end := time.After(pauseFirst)
	for {
		l.tellBrakes(ctx)
		if !slices.ContainsFunc(files, (*keptFile).waits) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-end:
			return
		case <-time.After(restJobs):
		}
	}
}

// waits reports whether a pause of f is not on record yet.
func (f *keptFile) waits() bool {
	return slices.ContainsFunc(f.pauses, func(told <-chan struct{}) bool { return !closed(told) })
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// awaitPauses waits until none does, or ctx ends.
func (f *keptFile) awaitPauses(ctx context.Context) {
	for _, told := range f.pauses {
		select {
		case <-told:
		case <-ctx.Done():
		}
	}
}

// mostRefused is how many lines of a file are named in the log.
const mostRefused = 10

// openFile reads a file; nil where there is nothing of it to record.
func (l *Listener) openFile(dir spoolDir, path string) *keptFile {
	records, refused, err := dir.read(path, l.database)
	switch {
	case errors.Is(err, errForeignDatabase): // its own listener may have this directory, too
		l.log.Error("a file of outcomes is not recorded, and is left where it is", "file", path, "error", err)
		return nil
	case err != nil:
		l.aside(dir, path, fmt.Errorf("all of it: %w", err))
		return nil
	}
	return &keptFile{dir: dir, path: path, refused: refused, records: len(records), replay: newReplay(l, records)}
}

// restoreFile puts on record what one file has. Rows that somebody else has locked keep
// nothing else back: what is about them goes on beside all the rest.
func (l *Listener) restoreFile(ctx context.Context, f *keptFile) {
	p := f.replay
	end := func() {
		f.let()
		if p.left() > 0 || f.waits() {
			return // told to stop; what is on record by now is so again at the next start
		}
		failpoint.Hit("K20b")
		l.restored(f.dir, f.path, f.refused, f.records, p.fenced)
	}
	if p.start(ctx); (p.left() > 0 || f.waits()) && ctx.Err() == nil {
		l.log.Warn("outcomes of an earlier stop wait for rows that somebody has locked; everything else goes on", "file", f.path, "count", p.left())
		l.restoring.Go(func() {
			p.rest(ctx)
			f.awaitPauses(ctx)
			end()
		})
		return
	}
	end()
}

// restored ends with a file of which all is on record, but for lines that were refused.
func (l *Listener) restored(dir spoolDir, path string, refused []refusedLine, records, fenced int) {
	if len(refused) > 0 {
		var why []error
		for i, r := range refused {
			if i == mostRefused {
				why = append(why, fmt.Errorf("and %d more", len(refused)-i))
				break
			}
			why = append(why, r)
		}
		l.aside(dir, path, errors.Join(why...))
	} else if err := dir.remove(path); err != nil {
		l.log.Error("a file of outcomes that are on record cannot be removed", "file", path, "error", err)
	}
	log := l.log.Info
	if fenced > 0 {
		log = l.log.Warn
	}
	log("outcomes of an earlier stop are on record", "file", path, "records", records-fenced, "fenced", fenced)
}

// aside keeps a file that cannot be taken, or not as a whole.
func (l *Listener) aside(dir spoolDir, path string, why error) {
	kept, err := dir.setAside(path)
	l.log.Error("a file of outcomes is refused, or lines of it, and kept aside", "file", kept, "error", errors.Join(why, err))
}

// replay records what was kept, by the statements of any record and under its own
// fence: the events, and then the deliveries that are on their own.
type replay struct {
	listener     *Listener
	events, jobs []entry // that have not come to an end
	pauses       []spooledWish

	mu     sync.Mutex
	fenced int                  // that were taken over since
	own    map[*job]struct{}    // of the deliveries on their own, those that have not come to an end
	open   map[keptKey]struct{} // of the events, the same
}

func newReplay(l *Listener, records []spooled) *replay {
	p := &replay{listener: l, own: map[*job]struct{}{}, open: map[keptKey]struct{}{}}
	for _, s := range records {
		switch {
		case s.Pause != nil:
			p.pauses = append(p.pauses, *s.Pause)
		case s.Delivery != nil:
			en := s.entry()
			p.jobs = append(p.jobs, en)
			p.own[en.job] = struct{}{}
		default:
			en := s.entry()
			p.events = append(p.events, en)
			p.open[keptKeyOf(en)] = struct{}{}
		}
	}
	return p
}

// keep holds, until ctx ends, the deliveries on their own whose outcomes are yet to be
// recorded: only their events may be locked, and then anybody could claim them.
func (p *replay) keep(ctx context.Context) {
	tick := time.NewTicker(p.listener.store.ttl() / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.hold(ctx)
		}
	}
}

func (p *replay) hold(ctx context.Context) {
	var jobs []*job
	p.mu.Lock()
	for j := range p.own {
		jobs = append(jobs, j)
	}
	p.mu.Unlock()
	if len(jobs) == 0 {
		return
	}
	if err := p.listener.store.holdKept(ctx, jobs); err != nil && ctx.Err() == nil {
		p.listener.sparse.warn("deliveries of a file of outcomes are not held", err)
	}
}

func (s *store) holdKept(ctx context.Context, jobs []*job) error {
	ids, claims := jobFences(jobs)
	return s.tx(ctx, forgetable, func(b *pgx.Batch) { b.Queue(sqlHoldKept, ids, claims, s.lease.Seconds()) })
}

// left is how many have not come to an end.
func (p *replay) left() int { return len(p.events) + len(p.jobs) }

// start records until nothing is left but what somebody has locked, or ctx ends.
func (p *replay) start(ctx context.Context) {
	p.events = p.record(ctx, p.events, true)
	p.startJobs(ctx)
}

// startJobs records the deliveries on their own whose events are on record, but for those that are locked.
func (p *replay) startJobs(ctx context.Context) {
	later := map[int64]bool{}
	p.mu.Lock()
	for k := range p.open {
		later[k.seq] = true
	}
	p.mu.Unlock()
	var now, waiting []entry
	for _, en := range p.jobs {
		if later[en.seq()] {
			waiting = append(waiting, en)
		} else {
			now = append(now, en)
		}
	}
	p.jobs = append(p.record(ctx, now, true), waiting...)
}

// rest records what is left, until ctx ends. Whoever has an event locked is waited for all the time, as it would be
// claimed otherwise once it is free; what waits for somebody else does not wait for that.
func (p *replay) rest(ctx context.Context) {
	var events sync.WaitGroup
	events.Go(func() { p.events = p.record(ctx, p.events, false) })
	for len(p.jobs) > 0 && ctx.Err() == nil {
		p.startJobs(ctx)
		wait(ctx, restJobs)
	}
	events.Wait()
}

// over notes that an entry has come to an end, and whether somebody has taken it over.
func (p *replay) over(en entry, fenced bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fenced {
		p.fenced++
	}
	if delete(p.own, en.job); en.job == nil {
		delete(p.open, keptKeyOf(en))
	}
}

// restJobs is how long it is until deliveries are tried again that were locked, or whose events were.
const restJobs = 100 * time.Millisecond

// keptKey is what an entry of a file is about, and under which claim: a file may have an
// event under two of them.
type keptKey struct {
	entryKey
	claim uuid.UUID
}

func keptKeyOf(en entry) keptKey {
	if en.job != nil {
		return keptKey{en.key(), en.job.lease.claim}
	}
	return keptKey{en.key(), en.event.lease.claim}
}

// triesAround is how often a row is found locked, a second apart, before it is left
// for later.
const triesAround = 3

// restAround is how long such a row is not waited for: whoever waits has it before those that claim.
const restAround = 10 * time.Millisecond

// record has entries recorded by a recorder of their own, until none is left, or where around is set,
// none but those that somebody has locked. It returns what is left.
func (p *replay) record(ctx context.Context, entries []entry, around bool) (left []entry) {
	if len(entries) == 0 || ctx.Err() != nil {
		return entries
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	open := map[keptKey]int{} // how often each was found locked that has not come to an end
	for _, en := range entries {
		open[keptKeyOf(en)] = 0
	}
	free := len(open) // of these, those that are not left for later
	r := newRecorder(ctx, p.listener.store, p.listener.log, func(en entry, kept bool) {
		mu.Lock()
		defer mu.Unlock()
		fenced := !kept && !en.orphan
		if p.over(en, fenced); fenced {
			p.listener.log.Debug("outcome of an earlier stop came after its lease was taken over, or its event is gone", "event", en.eventID())
		}
		k := keptKeyOf(en)
		if tries, is := open[k]; is && tries < triesAround {
			free--
		}
		if delete(open, k); len(open) == 0 {
			cancel()
		}
	})
	r.rest = restAround
	r.avoided = func(en entry) {
		mu.Lock()
		defer mu.Unlock()
		k := keptKeyOf(en)
		if tries, is := open[k]; is {
			if open[k] = tries + 1; open[k] == triesAround {
				free--
			}
		}
		if around && free == 0 {
			cancel()
		}
	}
	r.others.add(entries...)
	r.run(ctx)
	mu.Lock()
	defer mu.Unlock()
	return slices.DeleteFunc(slices.Clone(entries), func(en entry) bool {
		_, is := open[keptKeyOf(en)]
		return !is
	})
}
