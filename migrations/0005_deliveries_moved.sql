-- no transaction
--
-- The id of a delivery begins with 48 bits of its event's seq, so the primary
-- key finds the deliveries of an event. Where the event was opened again it
-- has a new place, and the deliveries that it had keep their ids: these alone
-- are in this index, and no others need be looked for. It says so by itself,
-- whoever wrote the row, and costs a fresh row a comparison and no entry.
--
-- It must not mention state or finished_at: "sending" -> "delivered" stays HOT.
create index concurrently if not exists deliveries_moved on outbox.deliveries (event_seq)
    where substr(uuid_send(id), 1, 6) <> substr(int8send(event_seq), 3);
