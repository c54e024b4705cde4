package listener

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// SMSLimits bound what somebody can do who makes the application send SMS, such as to
// numbers that are paid for each. The zero value bounds nothing.
type SMSLimits struct {
	Country   func(number string) bool // whether one in E.164 form is of a country that SMS may go to; nil means all are
	PerNumber int                      // to one number within an hour; 0 means any number
	PerDay    int                      // in all, of a day in UTC; 0 means any number
}

// withinLimits reports whether j, which goes as send, may begin. Where it may not, it has
// ended it. What was tried before is counted already, and what is redirected goes
// to people of ours.
func (l *Listener) withinLimits(ctx context.Context, j *job, send *dispatch.Delivery) bool {
	limits := l.cfg.SMS
	if j.Channel != dispatch.ChannelSMS || j.attempts > 0 || j.redirected {
		return true
	}
	m, err := dispatch.ReadContent[dispatch.SMS](&send.Message)
	if err != nil {
		return true // its sender says why
	}
	if limits.Country != nil && !limits.Country(m.To) {
		l.finish(j, dispatch.Outcome{State: dispatch.Dead, Reason: "not sent: the number is of none of the countries that SMS may go to"})
		return false
	}
	if limits.PerNumber <= 0 && limits.PerDay <= 0 {
		return true
	}
	over, err := l.store.countSMS(ctx, m.To, limits)
	if err != nil {
		l.sparse.warn("SMS not counted; trying again", err)
		l.handBack(j)
		return false
	}
	var why string
	switch over {
	case "":
		j.counted = m.To
		return true
	case "number":
		why = fmt.Sprintf("not sent: %d SMS went to this number within an hour", limits.PerNumber)
	default:
		why = fmt.Sprintf("not sent: %d SMS went today", limits.PerDay)
	}
	l.sparse.warn("SMS held, since there are too many", errors.New(why))
	j.withheld = true
	l.finish(j, dispatch.Outcome{State: dispatch.Held, Reason: why})
	return false
}

// unsent ends j without an attempt, of which nothing left though all was made ready.
func (l *Listener) unsent(j *job) {
	if j.counted != "" {
		ctx, cancel := context.WithTimeout(context.Background(), uncountPatience)
		defer cancel()
		if err := l.store.uncountSMS(ctx, j.counted, l.cfg.SMS); err != nil {
			l.sparse.warn("SMS counted that was not sent", err)
		}
		j.counted = ""
	}
	l.handBack(j)
}

// uncountPatience is for a database that may be away, which is why nothing left: then
// the count is one too high for a while.
const uncountPatience = time.Second

// countSMS counts one more to the number to, unless that is over a limit. It says
// which.
func (s *store) countSMS(ctx context.Context, to string, limits SMSLimits) (over string, err error) {
	orNone := func(n int) *int {
		if n <= 0 {
			return nil
		}
		return &n
	}
	last, now := s.smsForgot.Load(), time.Now().UnixNano()
	forget := now-last > int64(time.Hour) && s.smsForgot.CompareAndSwap(last, now)
	err = s.tx(ctx, forgetable, func(b *pgx.Batch) {
		if forget {
			b.Queue(sqlForgetSMSCounts)
		}
		b.Queue(sqlCountSMS, smsKey(to), orNone(limits.PerNumber), orNone(limits.PerDay)).QueryRow(func(row pgx.Row) error { return row.Scan(&over) })
	})
	return over, err
}

// uncountSMS takes back what countSMS counted for an SMS to the number to.
func (s *store) uncountSMS(ctx context.Context, to string, limits SMSLimits) error {
	return s.tx(ctx, forgetable, func(b *pgx.Batch) { b.Queue(sqlUncountSMS, smsKey(to), limits.PerDay > 0) })
}

// smsKey is what SMS to a number are counted by. Few numbers share one, and each is
// that of several.
func smsKey(to string) string {
	sum := sha256.Sum256([]byte(to))
	return fmt.Sprintf("to %x", sum[:4])
}
