package listener

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// The advisory locks, the same in sql/triggers/wake.sql. K is the gate: held
// exclusively it says "asleep, wake me". L makes one listener the owner of
// the gate; it is never waited for.
const (
	gateKey   int64 = 7206178340117325153
	leaderKey int64 = gateKey + 1
)

// gate says whether this listener owns the gate, and in which epoch it stands
// open; 0 when it is shut.
func (w *waker) gate() (leader bool, epoch int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leader, w.epoch
}

// openGate asks the session to open the gate. The answer comes on the channel
// that it returns, once.
func (w *waker) openGate(ctx context.Context) <-chan bool {
	ch := make(chan bool, 1)
	w.mu.Lock()
	w.reply(false) // an older asker, if any, gets no more
	w.answer = ch
	w.mu.Unlock()
	if err := w.notify(ctx, "gate"); err != nil {
		w.mu.Lock()
		if w.answer == ch {
			w.reply(false)
		}
		w.mu.Unlock()
	}
	return ch
}

// callForHelp wakes the other listeners. While the gate is shut nobody else
// notifies them; alone in its transaction, a notification is cheap.
func (w *waker) callForHelp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := w.pool.Exec(ctx, `select pg_catalog.pg_notify($1, '')`, WakeName); err != nil && ctx.Err() == nil {
		w.sparse.warn("help not called for", err)
	}
}

// crowd tells the gate that a wake-up brought many events: the next
// notification shuts it, and inserters fall silent.
func (w *waker) crowd() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crowded = w.epoch > 0
}

// sqlCommitsWait asks whether a commit waits for another one because both
// notify: NOTIFY takes this lock, on no object of the catalog of databases,
// before the commit (PreCommit_Notify in Postgres's async.c).
const sqlCommitsWait = `select exists (select from pg_catalog.pg_locks
	where locktype = 'object' and database = 0 and classid = 'pg_catalog.pg_database'::regclass and objid = 0 and not granted)`

// waitsOf looks in a row that find a commit waiting are no accident.
const waitsOf = 2

// suspect shuts the gate at the next notification if commits wait for each
// other because of them.
func (w *waker) suspect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var wait bool
	if err := w.pool.QueryRow(ctx, sqlCommitsWait).Scan(&wait); err != nil {
		if ctx.Err() == nil {
			w.sparse.warn("not looked into whether commits wait", err)
		}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !wait {
		w.waits = 0
	} else if w.waits++; w.waits >= waitsOf {
		w.crowded = w.epoch > 0
	}
}

// gateWait bounds one try for the gate, in milliseconds. While it waits,
// whoever inserts already sees a waiter and notifies.
const gateWait = 50

func (w *waker) tryGate(ctx context.Context, conn *pgx.Conn) error {
	w.mu.Lock()
	mine := w.leader && w.epoch == 0
	open := w.epoch > 0
	if !mine {
		w.reply(open)
	}
	w.mu.Unlock()
	if !mine {
		return nil
	}
	var ok bool
	err := conn.QueryRow(ctx, `select outbox.gate_open($1)`, gateWait).Scan(&ok)
	w.mu.Lock()
	defer w.mu.Unlock()
	if ok {
		w.opened++
		w.epoch, w.burst, w.crowded = w.opened, nil, false
		signal(w.C)
	}
	w.reply(ok)
	if err != nil {
		return fmt.Errorf("open the gate: %w", err)
	}
	return nil
}
