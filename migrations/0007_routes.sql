-- What routes say about a delivery beside its content; all null for those that
-- no route planned.
alter table outbox.deliveries
    add column if not exists deadline    timestamptz,  -- not sent after it: expired
    add column if not exists retry       json,         -- attempts, waits and on_uncertain of its own
    add column if not exists supersedes  text,         -- business key: of one step and key only the newest event's are sent
    add column if not exists after_steps text[],       -- the steps of its route that have to be delivered first
    add column if not exists scope       json,         -- what it is rendered from once they are
    add column if not exists copy        text,         -- where words came from that a model was asked for
    add column if not exists answer      json;         -- what the provider answered, where the route saves something of it

-- Empty at this point, and small later: most deliveries have no such key.
create index if not exists deliveries_supersedes on outbox.deliveries (supersedes, step) where supersedes is not null;
