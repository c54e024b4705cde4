package listener

import (
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestCrashesOfAnEventGoOn: what an event had on its account counts for its deliveries, once it
// is on record with them.
func TestCrashesOfAnEventGoOn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := &store{pool: db.Pool}
	for _, tt := range []struct {
		name, event, own string // columns count, alone and at; "" for no row
		want             int
	}{
		{"none has", "", "", 1},
		{"the event has", "1, false, now()", "", 2},
		{"the event was not alone the last time", "2, false, now()", "", 2},
		{"the event was alone", "2, true, now()", "", 3},
		{"the event has, of yesterday", "2, true, now() - interval '25 hours'", "", 1},
		{"it has its own", "2, true, now()", "1, false, now()", 2},
	} {
		id, origin := uuid.New(), uuid.New()
		for of, row := range map[uuid.UUID]string{origin: tt.event, id: tt.own} {
			if row != "" {
				pgtest.Exec(t, db, `insert into outbox.crashes (id, count, alone, at) values ($1, `+row+`)`, of)
			}
		}
		var ids, origins uuids
		ids.add(id)
		origins.add(origin)
		got, err := s.noteCrashes(t.Context(), ids, origins, 3)
		if err != nil || got[id] != tt.want {
			t.Errorf("%s: %v, %v; want %d", tt.name, got, err, tt.want)
		}
	}
}
