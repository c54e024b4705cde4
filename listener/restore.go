package listener

import (
	"context"
	"errors"
	"fmt"
	"sync"

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

// restoreFile puts on record what one file has.
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
	done, fenced := l.replay(ctx, records)
	if done < len(records) {
		return // told to stop; what is on record by now is so again at the next start
	}
	failpoint.Hit("K20b")
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
	log("outcomes of an earlier stop are on record", "file", path, "records", len(records)-fenced, "fenced", fenced)
}

// aside keeps a file that cannot be taken, or not as a whole.
func (l *Listener) aside(dir spoolDir, path string, why error) {
	kept, err := dir.setAside(path)
	l.log.Error("a file of outcomes is refused, or lines of it, and kept aside", "file", kept, "error", errors.Join(why, err))
}

// replay records what was kept, by the statements of any record and under its own
// fence: the events, and then the deliveries that are on their own. It returns how
// many came to an end, and how many of those were taken over since.
func (l *Listener) replay(ctx context.Context, records []spooled) (done, fenced int) {
	var events, jobs []entry
	for _, s := range records {
		if s.Delivery != nil {
			jobs = append(jobs, s.entry())
		} else {
			events = append(events, s.entry())
		}
	}
	for _, entries := range [][]entry{events, jobs} {
		n, f := l.recordAll(ctx, entries)
		if done, fenced = done+n, fenced+f; n < len(entries) {
			break
		}
	}
	return done, fenced
}

// recordAll has entries recorded by a recorder of their own, and waits until all
// of them are, or ctx ends.
func (l *Listener) recordAll(ctx context.Context, entries []entry) (done, fenced int) {
	if len(entries) == 0 {
		return 0, 0
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	r := newRecorder(ctx, l.store, l.log, func(en entry, kept bool) {
		mu.Lock()
		defer mu.Unlock()
		if !kept && !en.orphan {
			fenced++
			l.log.Debug("outcome of an earlier stop came after its lease was taken over, or its event is gone", "event", en.eventID())
		}
		if done++; done == len(entries) {
			cancel()
		}
	})
	r.others.add(entries...)
	r.run(ctx)
	mu.Lock()
	defer mu.Unlock()
	return done, fenced
}
