-- Deliveries of a route with an ordering_key go one event after the other. All three
-- stay null on every other delivery, and on those an index of them costs nothing.
alter table outbox.deliveries
    add column if not exists ordering_key text,         -- what it is in order by
    add column if not exists line         text,         -- the same, from its record on until it is over and its turn has passed
    add column if not exists turn_at      timestamptz;  -- since when it is its event's turn; null: it waits
