-- The ledger and our own state, in a schema of their own. The schema and
-- outbox.schema_history are made by the runner before the first file.

-- One row. floor: every row of outbox_events with seq <= floor is processed,
-- parked, or was rolled back; no claim needs to look below it.
create table outbox.state (
    one              boolean     primary key default true check (one),
    floor            bigint      not null default 0,
    adopted_at       timestamptz,  -- the moment from which on new rows carry a seq
    fillfactor       text,         -- what the events table had of its own before ours; null: nothing
    backlog          text        check (backlog in ('deliver', 'skip', 'since')),
    backlog_since    timestamptz,  -- unprocessed rows created before it are left alone
    backlog_asked_at timestamptz,  -- when they were counted for the decision
    backlog_seen     uuid[],       -- the youngest of those counted; rows that committed later are new, whatever their created_at
    backlog_done_at  timestamptz   -- when those to be delivered had their places; null: some have not yet
);
insert into outbox.state default values;

-- One row for each delivery: one event on one route step to one recipient.
-- Documented for operators in docs/ledger.md.
create table outbox.deliveries (
    id               uuid        primary key,  -- the idempotency key; begins with event_seq, so that new ones go to the index's end
    event_id         uuid        not null,
    event_seq        bigint      not null,
    event_type       text        not null,
    event_created_at timestamptz not null,
    route            text        not null,     -- '' when no route matched
    step             text        not null,
    channel          text        not null,     -- '' when no route matched
    recipient        text        not null,     -- masked
    state            text        not null,
    attempts         integer     not null,
    generation       integer     not null default 0,  -- grows when an event is opened again
    required         boolean     not null default true,
    provider_id      text,
    last_error       text,
    due_at           timestamptz,  -- when somebody must look at it; while it is being worked on, when its lease runs out
    claim            uuid,         -- the fence: every write names the claim it was made under
    content          json,         -- frozen bytes; kept while it is open or dead
    created_at       timestamptz not null default clock_timestamp(),
    finished_at      timestamptz,
    constraint deliveries_state check (state in
        ('scheduled', 'ready', 'sending', 'retry', 'uncertain', 'held',
         'delivered', 'dead', 'expired', 'canceled', 'skipped')),
    constraint deliveries_finished check ((finished_at is not null) =
        (state in ('delivered', 'dead', 'expired', 'canceled', 'skipped')))
) with (fillfactor = 80);  -- room for "sending" to become "delivered" on the same page

-- No index may mention state or finished_at: "sending" -> "delivered" stays HOT.
create index deliveries_event on outbox.deliveries (event_seq);
create index deliveries_due   on outbox.deliveries (due_at) where due_at is not null;

-- One row for each attempt that was not simply taken. An accepted attempt
-- leaves its trace in deliveries alone.
create table outbox.attempts (
    delivery_id uuid        not null,
    attempt     integer     not null,
    at          timestamptz not null default clock_timestamp(),
    took        interval    not null,
    state       text        not null,  -- where the delivery stood after it
    kind        text,                  -- rejected, throttled, down, unknown
    status      integer,               -- HTTP or SMTP reply code
    error       text,
    primary key (delivery_id, attempt)
);
