-- What is needed to ask a provider, after an attempt without a clear answer,
-- whether it took the delivery; all null for those that were never announced or
-- whose provider cannot be asked.
alter table outbox.deliveries
    add column if not exists announced_at timestamptz,  -- of the first attempt, where the row was there before; null: created_at
    add column if not exists likeness     integer,      -- 20 bits of a hash of what the provider cannot tell it from others by
    add column if not exists looks        jsonb;        -- what came of asking, one object each time
