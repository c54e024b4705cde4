package operate

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/listener"
)

// kin is a delivery among those of its event that have the same step and the same
// recipient: several of a for_each may go to one address.
type kin struct {
	id         uuid.UUID
	generation int
}

// tellApart mends newer, which may be about another delivery to the same address.
func tellApart(ctx context.Context, tx pgx.Tx, all []facts) error {
	var ids []uuid.UUID
	for _, f := range all {
		if f.newer {
			ids = append(ids, f.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, sqlFindKin, ids)
	if err != nil {
		return err
	}
	families, of := map[string][]kin{}, map[uuid.UUID]string{}
	var k kin
	var family string
	_, err = pgx.ForEachRow(rows, []any{&k.id, &k.generation, &family}, func() error {
		families[family] = append(families[family], k)
		of[k.id] = family
		return nil
	})
	if err != nil {
		return err
	}
	newer := map[uuid.UUID]bool{}
	for _, members := range families {
		for _, id := range succeeded(members) {
			newer[id] = true
		}
	}
	for i := range all {
		if _, there := of[all[i].id]; there {
			all[i].newer = newer[all[i].id]
		}
	}
	return nil
}

// succeeded are those of a family that have a successor. A replay says whose it is.
// What was planned anew, when its event was opened again, may be anybody's: it counts
// for all that are older.
func succeeded(family []kin) (ids []uuid.UUID) {
	replays := map[[10]byte]int{} // by what an id has beside the place of its event
	for i, k := range family {
		replays[tail(listener.ReplayID(k.id, 0, k.generation+1))] = i
	}
	older := map[uuid.UUID]bool{}
	newest := -1 // that was planned, not replayed
	for _, k := range family {
		at, replayed := replays[tail(k.id)]
		if !replayed {
			newest = max(newest, k.generation)
		}
		for ; replayed && !older[family[at].id]; at, replayed = replays[tail(family[at].id)] {
			older[family[at].id] = true
		}
	}
	for _, k := range family {
		if older[k.id] || k.generation < newest {
			ids = append(ids, k.id)
		}
	}
	return slices.Clip(ids)
}

func tail(id uuid.UUID) [10]byte { return [10]byte(id[6:]) }
