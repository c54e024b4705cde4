package listener

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// ReplayID makes the id of a delivery that a person has sent again: the same
// whoever makes it, so that of two who do one is told that it was done. It is
// made of the id of the one before, since the ledger has its recipient masked;
// seq is the number that its event has now, generation that of the new one.
func ReplayID(old uuid.UUID, seq int64, generation int) uuid.UUID {
	buf := append([]byte("replay"), old[6:]...) // the part that is the same wherever its event stands
	buf = binary.BigEndian.AppendUint64(buf, uint64(generation))
	sum := sha256.Sum256(buf)
	return placed(sum[:], seq)
}

// mostGenerations bounds how far back a replayed delivery is followed.
const mostGenerations = 64

// standsFor reports whether a delivery with this id and generation is one of m:
// planned under that generation, or replayed from one of those before. Only the
// part of an id counts that is the same wherever its event stands in the order.
func (m *lineage) standsFor(id uuid.UUID, generation int) bool {
	for g := len(m.ids); g <= min(generation, mostGenerations); g++ {
		ids := []uuid.UUID{deliveryID(0, m.event, m.message, g)}
		if g > 0 {
			for _, old := range m.ids[g-1] {
				ids = append(ids, ReplayID(old, 0, g))
			}
		}
		m.ids = append(m.ids, ids)
	}
	if generation < 0 || generation >= len(m.ids) {
		return deliveryTail(id) == deliveryTail(deliveryID(0, m.event, m.message, generation))
	}
	return slices.ContainsFunc(m.ids[generation], func(own uuid.UUID) bool { return deliveryTail(own) == deliveryTail(id) })
}

func deliveryTail(id uuid.UUID) [10]byte { return [10]byte(id[6:]) }

// lineage is a message of an event, with the ids that deliveries of it may have.
type lineage struct {
	event   uuid.UUID
	message *dispatch.Message
	ids     [][]uuid.UUID // by generation, as far as they were needed
}
