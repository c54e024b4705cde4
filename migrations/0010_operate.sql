-- What people do to deliveries: docs/operate.md.

-- One row for each transaction in which a person changed something, written
-- in that same transaction. Rows are only ever added: no role of ours may
-- change or delete them.
create table if not exists outbox.audit (
    id         bigint      generated always as identity primary key,
    at         timestamptz not null default clock_timestamp(),
    run        uuid        not null,  -- one command may take several transactions
    who        text        not null,  -- who it was, as the command or the admin endpoint knows
    role       name        not null default session_user,
    via        text        not null,  -- command, api
    origin     text        not null,  -- the host, or the address of the request
    action     text        not null,
    filter     json        not null,  -- what was asked for
    count      integer     not null,  -- how many deliveries, or pauses, this transaction changed
    deliveries uuid[],                -- which; of a replay the new ones
    reason     text        not null   -- '' where none was given
);

-- What is not sent for the time being.
create table if not exists outbox.pauses (
    kind    text        not null check (kind in ('type', 'channel')),
    pattern text        not null,     -- an event type, quote.* for all that begin so, or a channel
    since   timestamptz not null default clock_timestamp(),
    who     text        not null,
    reason  text        not null,
    primary key (kind, pattern)
);

-- Since when a delivery is dead or held; null otherwise. No index may mention
-- state, so that "sending" -> "delivered" stays HOT; this column does not
-- change then, and its index has the few that wait for a person. Each statement
-- that sets state sets it: a trigger would cost every delivery something.
alter table outbox.deliveries add column if not exists stuck_at timestamptz;

-- The state in which a person held it, for when it is released; null where a
-- listener held it.
alter table outbox.deliveries add column if not exists held_from text;
