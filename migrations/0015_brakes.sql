-- Where nothing is sent for the time being, since it is down or throttles:
-- docs/design.md. Every listener reads it, and any of them changes it.
create table if not exists outbox.brakes (
    destination text        primary key,       -- channel, host and account, as the listener names it
    reason      text        not null,          -- the last failure, without recipients
    failures    bigint      not null,          -- that were counted since it was put on
    since       timestamptz not null default clock_timestamp(),
    until       timestamptz not null,          -- nothing is sent there before
    probe_at    timestamptz not null           -- when the next one may try
);
