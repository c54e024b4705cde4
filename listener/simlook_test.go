package listener

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// What a simulated process asks and notes where something may have arrived, or brought
// a listener down.

func (s *simStore) traces(ctx context.Context, j *job) (t traces, err error) {
	err = s.do(ctx, forgetable, func(m *reference) error {
		r := m.open(j.ID, j.lease.claim)
		if r == nil {
			return nil
		}
		t = traces{held: true, providerID: r.provider, likeness: r.likeness, since: m.now().Sub(r.announced), looks: slices.Clone(r.looked), now: m.now()}
		return nil
	})
	return t, err
}

func (s *simStore) alike(ctx context.Context, j *job, likeness int32, since time.Duration) (others []dispatch.Claimant, err error) {
	err = s.do(ctx, forgetable, func(m *reference) error {
		for _, r := range m.rows {
			if r.id != j.ID && r.likeness != nil && *r.likeness == likeness {
				others = append(others, dispatch.Claimant{State: r.state, Attempts: r.attempts, ProviderID: r.provider})
			}
		}
		return nil
	})
	return others, err
}

func (s *simStore) noteLook(ctx context.Context, j *job, likeness int32, v dispatch.Verdict, found dispatch.Receipt, _ string) (kept bool, err error) {
	err = s.do(ctx, durable, func(m *reference) error {
		for _, r := range m.rows {
			if r.id != j.ID && r.likeness != nil && *r.likeness == likeness && found.ProviderID != "" && r.provider == found.ProviderID {
				return nil
			}
		}
		if kept = m.noteLook(j.ID, j.lease.claim, found.ProviderID); kept {
			r := m.rows[j.ID]
			r.looked = append(r.looked, looked{Attempt: r.attempts, At: m.now(), Verdict: v})
		}
		return nil
	})
	return kept, err
}

func (s *simStore) readCrashes(ctx context.Context, ids uuids) (map[uuid.UUID]int, error) {
	counts := map[uuid.UUID]int{}
	err := s.do(ctx, forgetable, func(*reference) error {
		for _, u := range ids {
			if c := s.db.crashed[u.Bytes]; c != nil {
				counts[u.Bytes] = c.count
			}
		}
		return nil
	})
	return counts, err
}

func (s *simStore) noteCrashes(ctx context.Context, ids, origins uuids, most int) (map[uuid.UUID]int, error) {
	counts := map[uuid.UUID]int{}
	err := s.do(ctx, durable, func(*reference) error {
		var used []*simCrash
		for i, u := range ids {
			id := uuid.UUID(u.Bytes)
			c, origin := s.db.crashed[id], s.db.crashed[origins[i].Bytes]
			if c == nil && origin != nil {
				used = append(used, origin)
				c = &simCrash{origin.count, origin.alone}
				s.db.crashed[id] = c
			}
			switch {
			case c == nil:
				c = &simCrash{count: 1}
				s.db.crashed[id] = c
			case c.count+1 < most || c.alone:
				c.count++
			}
			c.alone = false
			counts[id] = c.count
		}
		for _, origin := range used {
			origin.alone = false
		}
		return nil
	})
	return counts, err
}

func (s *simStore) forgetCrashes(ctx context.Context, ids uuids) error {
	return s.do(ctx, forgetable, func(*reference) error {
		for _, u := range ids {
			delete(s.db.crashed, uuid.UUID(u.Bytes))
		}
		return nil
	})
}

func (s *simStore) tryAlone(ctx context.Context, id uuid.UUID, alone bool) error {
	return s.do(ctx, durable, func(*reference) error {
		if c := s.db.crashed[id]; c != nil {
			c.alone = alone
		}
		return nil
	})
}
