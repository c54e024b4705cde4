-- How fast is sent where OUTBOX_RATE_* says how fast it may be: docs/design.md. A
-- row that is a day old says nothing any more.
create table if not exists outbox.rates (
    key      text        primary key,  -- the destination, with the sender where that is what counts
    asked_at timestamptz not null,
    granted  integer     not null,     -- the slots of the last one that asked
    tat      timestamptz not null      -- the theoretical arrival time: the slots before it are taken
) with (fillfactor = 50);
