package listener

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
)

// What a simulated process writes of what it does.

func (s *simStore) announce(ctx context.Context, batch []announcement) (map[uuid.UUID]bool, error) {
	kept := map[uuid.UUID]bool{}
	err := s.do(ctx, durable, func(m *reference) error {
		for _, an := range batch {
			j := an.job
			before := m.rows[j.ID]
			attempted := before != nil && before.attempts > 0
			s.mayAnnounce(j, before)
			if !m.announce(j) {
				continue
			}
			r := m.rows[j.ID]
			if !attempted {
				r.announced = m.now()
			}
			r.likeness, kept[j.ID] = j.likeness, true
		}
		return nil
	})
	return kept, err
}

func (s *simStore) freeze(ctx context.Context, entries []entry) (kept map[int64]bool, canceled map[uuid.UUID]string, err error) {
	released := 0
	err = s.do(ctx, durable, func(m *reference) error {
		kept, canceled, released = m.freezeAll(entries)
		return nil
	})
	s.tellDue(err, released)
	return kept, canceled, err
}

func (s *simStore) disown(ctx context.Context, jobs []*job) error {
	return s.do(ctx, durable, func(m *reference) error {
		m.disown(jobs)
		return nil
	})
}

// recordFails is what a record may meet before it writes anything.
func (s *simStore) recordFails() error {
	if s.db.chance(0.01) {
		return &pgconn.PgError{Code: "55P03", Message: "simulated: somebody has locked a row"}
	}
	return nil
}

func (s *simStore) recordEvents(ctx context.Context, entries []entry) (map[int64]bool, error) {
	kept := map[int64]bool{}
	err := s.do(ctx, durable, func(m *reference) error {
		if err := s.recordFails(); err != nil {
			return err
		}
		for _, en := range entries {
			if m.recordEvent(en) {
				kept[en.event.seq] = true
			}
		}
		return nil
	})
	return kept, err
}

func (s *simStore) recordFresh(ctx context.Context, entries []entry) (map[int64]bool, error) {
	kept := map[int64]bool{}
	err := s.do(ctx, durable, func(m *reference) error {
		if err := s.recordFails(); err != nil {
			return err
		}
		for _, en := range entries {
			if m.held(en.event.seq, en.event.lease.claim) != nil && m.rows[en.rows[0].job.ID] != nil {
				return &pgconn.PgError{Code: "23505", Message: "simulated: the row is there"}
			}
		}
		for _, en := range entries {
			if ok, _ := m.recordFresh(en); ok {
				kept[en.event.seq] = true
			}
		}
		return nil
	})
	return kept, err
}

func (s *simStore) recordOrphans(ctx context.Context, entries []entry) (map[uuid.UUID]bool, error) {
	written := map[uuid.UUID]bool{}
	err := s.do(ctx, durable, func(m *reference) error {
		for _, en := range entries {
			for _, id := range m.recordOrphans(en) {
				written[id] = true
			}
		}
		return nil
	})
	return written, err
}

func (s *simStore) recordDeliveries(ctx context.Context, entries []entry) (map[uuid.UUID]bool, error) {
	kept, released := map[uuid.UUID]bool{}, 0
	err := s.do(ctx, durable, func(m *reference) error {
		if err := s.recordFails(); err != nil {
			return err
		}
		followed := false
		var ids []uuid.UUID
		for _, en := range entries {
			if m.recordDelivery(en.job, en.job.ledgerRow(s.ttl())) {
				kept[en.job.ID] = true
			}
			ids, followed = append(ids, en.job.ID), followed || en.job.mayBeFollowed()
			if en.job.mayBeSuperseded(en.job.outcome.State) {
				m.cancelSuperseded(en.job.ID)
				followed = true
			}
		}
		if followed {
			released = len(m.releaseFollowers(ids))
		}
		released += m.recall(entries)
		for _, en := range entries {
			m.settle(en.job.seq)
		}
		return nil
	})
	s.tellDue(err, released)
	return kept, err
}

func (s *simStore) busyEvents(ctx context.Context, entries []entry) (map[int64]bool, error) {
	busy := map[int64]bool{}
	err := s.do(ctx, forgetable, func(*reference) error {
		for _, en := range entries {
			if s.db.r.IntN(3) == 0 {
				busy[en.seq()] = true
			}
		}
		return nil
	})
	return busy, err
}
