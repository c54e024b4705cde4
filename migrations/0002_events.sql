-- The application's own table, where it has none yet. An existing one is
-- adopted by the next files instead.
create table if not exists public.outbox_events (
    id           uuid        primary key default gen_random_uuid(),
    type         text        not null,
    payload      jsonb       not null,
    created_at   timestamptz not null default now(),
    processed_at timestamptz
);
