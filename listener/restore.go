package listener

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

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
	for _, path := range paths {
		if ctx.Err() != nil {
			return nil // it is there at the next start
		}
		l.restoreFile(ctx, dir, path)
	}
	return nil
}

// mostRefused is how many lines of a file are named in the log.
const mostRefused = 10

// restoreFile puts on record what one file has. Rows that somebody else has locked keep
// nothing else back: what is about them goes on beside all the rest.
func (l *Listener) restoreFile(ctx context.Context, dir spoolDir, path string) {
	records, refused, err := dir.read(path, l.database)
	switch {
	case errors.Is(err, errForeignDatabase): // its own listener may have this directory, too
		l.log.Error("a file of outcomes is not recorded, and is left where it is", "file", path, "error", err)
		return
	case err != nil:
		l.aside(dir, path, fmt.Errorf("all of it: %w", err))
		return
	}
	p := newReplay(l, records)
	end := func() {
		if p.left() > 0 {
			return // told to stop; what is on record by now is so again at the next start
		}
		failpoint.Hit("K20b")
		l.restored(dir, path, refused, len(records), p.fenced)
	}
	if p.run(ctx, true); p.left() > 0 && ctx.Err() == nil {
		l.log.Warn("outcomes of an earlier stop wait for rows that somebody has locked; everything else goes on", "file", path, "count", p.left())
		jobs := p.held()
		l.holdKept(ctx, jobs)
		l.restoring.Go(func() {
			holding, cancel := context.WithCancel(ctx)
			defer cancel()
			l.restoring.Go(func() { l.keepKept(holding, jobs) })
			p.run(ctx, false)
			end()
		})
		return
	}
	end()
}

// keepKept renews, until ctx ends, the leases of deliveries whose outcomes are yet to be
// recorded: only their events may be locked, and then anybody could claim them. Those that are on
// record, or taken over, have another claim.
func (l *Listener) keepKept(ctx context.Context, jobs []*job) {
	tick := time.NewTicker(l.store.ttl() / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.holdKept(ctx, jobs)
		}
	}
}

func (l *Listener) holdKept(ctx context.Context, jobs []*job) {
	if len(jobs) == 0 {
		return
	}
	_, err := l.store.renew(ctx, nil, jobs)
	if isLocked(err) {
		err = nil
		for _, j := range jobs { // one that is locked nobody can claim
			if _, one := l.store.renew(ctx, nil, []*job{j}); !isLocked(one) {
				err = errors.Join(err, one)
			}
		}
	}
	if err != nil && ctx.Err() == nil {
		l.sparse.warn("leases not renewed", err)
	}
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
	fenced       int     // that were taken over since
}

func newReplay(l *Listener, records []spooled) *replay {
	p := &replay{listener: l}
	for _, s := range records {
		if s.Delivery != nil {
			p.jobs = append(p.jobs, s.entry())
		} else {
			p.events = append(p.events, s.entry())
		}
	}
	return p
}

// held are the deliveries on their own among what is left, in the order in which rows are
// locked.
func (p *replay) held() []*job {
	var jobs []*job
	for _, en := range p.jobs {
		jobs = append(jobs, en.job)
	}
	slices.SortFunc(jobs, func(a, b *job) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return jobs
}

// left is how many have not come to an end.
func (p *replay) left() int { return len(p.events) + len(p.jobs) }

// run records until nothing is left, or ctx ends; or, where around is set, until only what
// somebody has locked is.
func (p *replay) run(ctx context.Context, around bool) {
	p.events = p.record(ctx, p.events, around)
	later := map[int64]bool{} // a delivery is on its own only once its event is on record
	for _, en := range p.events {
		later[en.seq()] = true
	}
	var now, waiting []entry
	for _, en := range p.jobs {
		if later[en.seq()] {
			waiting = append(waiting, en)
		} else {
			now = append(now, en)
		}
	}
	p.jobs = append(p.record(ctx, now, around), waiting...)
}

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

// triesAround is how often a row is found locked, a second and a half apart, before it is left
// for later.
const triesAround = 3

// restAround is how long such a row is not waited for: whoever waits has it before those that claim.
const restAround = 10 * time.Millisecond

// record has entries recorded by a recorder of their own, and returns those that are not
// when run has to go on.
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
		if !kept && !en.orphan {
			p.fenced++
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
