package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// How what arrives is followed.
const (
	devLookAgain = 10 * time.Millisecond  // for the ledger to have an arrival
	devGiveUp    = 3 * time.Second        // waiting for that
	devEndings   = 250 * time.Millisecond // between looks for what no stand-in got
	devOverlap   = 5 * time.Second        // outcomes commit a little later than they are dated
	devComplain  = 5 * time.Second        // between lines about a database that is away
)

// show delivers the samples and then shows whatever arrives until ctx ends.
func (d *dev) show(ctx context.Context) error {
	d.screen.header(d)
	f := &follower{d: d, seen: map[uuid.UUID]bool{}}
	if err := d.pool.QueryRow(ctx, `select clock_timestamp()`).Scan(&f.since); err != nil {
		return err
	}
	d.screen.columns()
	if err := d.insertSamples(ctx); err != nil {
		return err
	}
	settled := time.Now().Add(devGiveUp)
	if err := f.run(ctx, func() bool {
		return f.taken >= len(d.samples) && len(f.pending) == 0 || time.Now().After(settled)
	}); err != nil {
		return err
	}
	_, err := exec.LookPath("psql")
	d.screen.invitation(d, err == nil)
	return f.run(ctx, func() bool { return false })
}

// follower prints what arrives at the stand-ins, and what ends without ever
// getting there.
type follower struct {
	d       *dev
	taken   int // arrivals
	pending []arrival

	since  time.Time // finished_at of the last ending
	seen   map[uuid.UUID]bool
	looked time.Time // for endings

	complained time.Time
}

// arrival is a message that the ledger has to be asked about.
type arrival struct {
	standin.Received
	giveUp time.Time
}

// run prints until done says so, which is asked whenever something happened
// and every now and then. It returns nil too once ctx has ended.
func (f *follower) run(ctx context.Context, done func() bool) error {
	for {
		fresh, more := f.d.standins.from(f.taken)
		f.taken += len(fresh)
		for _, m := range fresh {
			f.pending = append(f.pending, arrival{m, time.Now().Add(devGiveUp)})
		}
		err := f.resolve(ctx)
		if err == nil && time.Since(f.looked) >= devEndings {
			f.looked = time.Now()
			err = f.endings(ctx)
		}
		if ctx.Err() != nil || done() {
			return nil
		}
		if err != nil && time.Since(f.complained) > devComplain {
			// Somebody has a try at ending connections; the next look has a new one.
			f.complained = time.Now()
			fmt.Fprintf(f.d.stderr, "listener dev: reading the ledger: %s\n", oneLine(err.Error()))
		}
		pause := devEndings
		if len(f.pending) > 0 {
			pause = devLookAgain
		}
		timer := time.NewTimer(pause)
		select {
		case <-more:
		case <-timer.C:
		case <-f.d.ended:
			timer.Stop()
			if ctx.Err() == nil {
				return errDevEnded
			}
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// ledgerEntry is what is asked about an arrival.
type ledgerEntry struct {
	ID        string // as in arrivalID
	EventID   uuid.UUID
	Committed *time.Time // by the database's clock, which is ours
}

// resolve prints the pending arrivals that the ledger knows by now, and those
// that have waited long enough for it.
func (f *follower) resolve(ctx context.Context) error {
	if len(f.pending) == 0 {
		return nil
	}
	ids, sids := []uuid.UUID{}, []string{}
	for _, a := range f.pending {
		if a.Channel == dispatch.ChannelSMS {
			sids = append(sids, a.ID)
		} else if id, err := uuid.Parse(arrivalID(a.Received)); err == nil {
			ids = append(ids, id)
		}
	}
	rows, err := f.d.pool.Query(ctx, `
		with known as (
		    select id::text as id, event_id from outbox.deliveries where id = any ($1)
		    union all
		    select provider_id, event_id from outbox.deliveries
		    where cardinality($2::text[]) > 0 and channel = 'sms' and provider_id = any ($2::text[])
		)
		select k.id, k.event_id, pg_xact_commit_timestamp(c.xid::xid)
		from known as k left join outbox_dev.commits as c on c.event_id = k.event_id`, ids, sids)
	if err != nil {
		return err
	}
	entries, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ledgerEntry])
	if err != nil {
		return err
	}
	known := make(map[string]ledgerEntry, len(entries))
	for _, e := range entries {
		known[e.ID] = e
	}
	waiting := f.pending[:0]
	for _, a := range f.pending {
		entry, ok := known[arrivalID(a.Received)]
		if !ok && time.Now().Before(a.giveUp) {
			waiting = append(waiting, a)
			continue
		}
		f.d.screen.arrival(a.Received, f.latency(a.Received, entry))
	}
	f.pending = waiting
	return nil
}

// latency is the time from COMMIT to acceptance. For samples, COMMIT is when
// it had returned; for other events it is what the database has on record. ""
// means that it is not known.
func (f *follower) latency(m standin.Received, e ledgerEntry) string {
	for _, s := range f.d.samples {
		if s.id == e.EventID {
			return inMs(m.At.Sub(s.committed))
		}
	}
	if e.Committed != nil {
		return inMs(m.At.Sub(*e.Committed))
	}
	return ""
}

// ending is a finished delivery that no stand-in received.
type ending struct {
	ID        uuid.UUID
	Type      string
	Channel   string
	Recipient string // masked
	State     string
	Reason    string
	At        time.Time
}

// endings prints them, except for the dead, which are in the log.
func (f *follower) endings(ctx context.Context) error {
	rows, err := f.d.pool.Query(ctx, `
		select id, event_type, channel, recipient, state, coalesce(last_error, ''), finished_at
		from outbox.deliveries
		where finished_at > $1
		  and state <> 'dead'
		  and not (state = 'delivered' and (channel in ('sms', 'email') or channel = 'webhook' and recipient = $2))
		order by finished_at`, f.since.Add(-devOverlap), f.d.standins.ofWebhooks())
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ending])
	if err != nil {
		return err
	}
	for _, e := range all {
		if !f.seen[e.ID] {
			f.seen[e.ID] = true
			f.since = e.At
			f.d.screen.ending(e)
		}
	}
	return nil
}
