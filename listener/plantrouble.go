package listener

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	unplannedInRow = 5           // plans of one type that fail, one after the other, until others of it are put off
	planProbeEvery = time.Second // how often one of them is planned then
	mostTroubles   = 1000        // types that are known to be in trouble
)

// planTroubles are the types of events whose plans fail for a reason that is not the event's: a
// table that a lookup needs is not there, or the database has had enough. To plan each of a
// backlog would come to the same, and take from all others what it costs. So one of a type is
// planned in a second, of each listener, and the rest is put off as if it had been.
//
// The zero value knows of none.
type planTroubles struct {
	some  atomic.Bool // there are: what is asked for each event
	mu    sync.Mutex
	types map[string]*planTrouble
}

// planTrouble is that of one type.
type planTrouble struct {
	failed int       // plans in a row
	tried  time.Time // when one was last begun, or failed
	err    error     // of the last
}

// keep returns why an event of that type is not to be planned now; nil where it may be.
func (ts *planTroubles) keep(typ string) error {
	if !ts.some.Load() {
		return nil
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.types[typ]
	if t == nil || t.failed < unplannedInRow {
		return nil
	}
	if now := time.Now(); now.Sub(t.tried) >= planProbeEvery {
		t.tried = now
		return nil
	}
	return t.err
}

// failed notes that a plan of that type did.
func (ts *planTroubles) failed(typ string, err error) {
	if ofTheEvent(err) {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.types[typ]
	if t == nil {
		if ts.types == nil || len(ts.types) >= mostTroubles {
			ts.types = map[string]*planTrouble{}
		}
		t = &planTrouble{}
		ts.types[typ] = t
		ts.some.Store(true)
	}
	t.failed, t.tried, t.err = t.failed+1, time.Now(), err
}

// planned notes that a plan of that type was made.
func (ts *planTroubles) planned(typ string) {
	if !ts.some.Load() {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.types, typ)
	ts.some.Store(len(ts.types) > 0)
}

// ofTheEvent reports whether a plan failed by what the event says, so that others of its type may
// do: data that a lookup cannot work with (SQLSTATE classes 21, 22 and 23), or what a function of the
// database says of it (P0).
func ofTheEvent(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	for _, class := range []string{"21", "22", "23", "P0"} {
		if strings.HasPrefix(pg.Code, class) {
			return true
		}
	}
	return false
}
