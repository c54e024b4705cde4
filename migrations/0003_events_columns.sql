-- Our three columns, all nullable, so that neither a rewrite nor a scan of
-- the application's table is needed: only its catalog entry changes.
--
-- The default of seq comes after the column: existing rows keep null, and
-- every row that commits from here on has a number. Sequence cache must stay
-- 1: the floor's proof needs numbers to be handed out in order.
--
-- The column does not own the sequence: an owned one would begin again at 1,
-- below the floor, when somebody runs TRUNCATE ... RESTART IDENTITY, and
-- would have to belong to the owner of the table.
create sequence if not exists public.outbox_events_seq_seq;

alter table public.outbox_events
    add column if not exists seq         bigint,
    add column if not exists lease_until timestamptz,
    add column if not exists claim       uuid;

alter table public.outbox_events
    alter column seq set default nextval('public.outbox_events_seq_seq');

-- Whoever may insert must be able to draw a number. No other right follows.
grant usage on sequence public.outbox_events_seq_seq to public;

-- Room on each new page for the claim and the completion of its rows, so
-- that both are HOT and touch no index. Existing pages stay as they are.
-- What the table had before is kept for the day we leave.
update outbox.state set
    adopted_at = clock_timestamp(),
    fillfactor = (select o.option_value
                  from pg_catalog.pg_class as c, pg_catalog.pg_options_to_table(c.reloptions) as o
                  where c.oid = 'public.outbox_events'::regclass and o.option_name = 'fillfactor');

alter table public.outbox_events set (fillfactor = 33);
