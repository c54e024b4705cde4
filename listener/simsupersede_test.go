package listener

import "strings"

// mayAnnounce holds the announcement of j, which is on record as r, against what
// supersedes it. The caller holds db.mu.
func (s *simStore) mayAnnounce(j *job, r *refRow) {
	if r == nil || r.supersedes == "" || r.claim != j.lease.claim {
		return
	}
	if newest := s.db.ref.newest(key{r.supersedes, r.step}); newest > r.seq && s.db.ref.supersedable(r) {
		w := s.proc.w
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.released[r.id] {
			return
		}
		w.fault(r.event, "%s is %s and announced by listener %d, and event number %d supersedes it", r.step, r.state, s.proc.n, newest)
	}
}

// judgeSuperseded holds what became of r against newer events of the same.
func (w *simWorld) judgeSuperseded(r *refRow) {
	if r.supersedes == "" {
		return
	}
	newest := w.db.ref.newest(key{r.supersedes, r.step}) == r.seq
	switch {
	case newest && strings.HasPrefix(r.lastError, "superseded"):
		w.fault(r.event, "%s is %s, and there is nothing newer", r.step, r.lastError)
	case !newest && w.db.ref.supersedable(r):
		w.fault(r.event, "%s is %s, and there is something newer", r.step, r.state)
	}
}
