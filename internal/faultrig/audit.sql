-- The database's own ledger: every change of an event or a delivery that says
-- something about who holds it or how it stands, and which process made it, by
-- its application_name.
create schema faultrig;

create table faultrig.changes (
    n            bigserial   primary key,
    at           timestamptz not null default clock_timestamp(),
    app          text        not null default current_setting('application_name'),
    event        uuid        not null,
    delivery     uuid,        -- null: a change of the event itself
    old_claim    uuid,
    claim        uuid,
    old_until    timestamptz, -- lease of an event, due time of a delivery
    until        timestamptz,
    old_state    text,        -- of an event open, parked or processed
    state        text        not null,
    old_attempts integer,
    attempts     integer
);

create function faultrig.event_state(processed timestamptz, lease timestamptz) returns text language sql immutable as
$$ select case when processed is not null then 'processed' when lease = 'infinity' then 'parked' else 'open' end $$;

create function faultrig.event_changed() returns trigger language plpgsql as
$$
begin
    insert into faultrig.changes (event, old_claim, claim, old_until, until, old_state, state)
    values (new.id, old.claim, new.claim, old.lease_until, new.lease_until,
            faultrig.event_state(old.processed_at, old.lease_until), faultrig.event_state(new.processed_at, new.lease_until));
    return null;
end
$$;

create trigger faultrig_event after update on public.outbox_events
    for each row execute function faultrig.event_changed();

create function faultrig.delivery_changed() returns trigger language plpgsql as
$$
begin
    if tg_op = 'INSERT' then
        insert into faultrig.changes (event, delivery, claim, until, state, attempts)
        values (new.event_id, new.id, new.claim, new.due_at, new.state, new.attempts);
    else
        insert into faultrig.changes (event, delivery, old_claim, claim, old_until, until, old_state, state, old_attempts, attempts)
        values (new.event_id, new.id, old.claim, new.claim, old.due_at, new.due_at, old.state, new.state, old.attempts, new.attempts);
    end if;
    return null;
end
$$;

create trigger faultrig_delivery after insert on outbox.deliveries
    for each row execute function faultrig.delivery_changed();

-- Whoever passes the turn takes what is over out of its line, and changes nothing
-- else of it.
create trigger faultrig_delivery_changed after update on outbox.deliveries
    for each row
    when (old.line is not distinct from new.line
          or (old.claim, old.due_at, old.state, old.attempts) is distinct from (new.claim, new.due_at, new.state, new.attempts))
    execute function faultrig.delivery_changed();

-- Where the sql step of routes.yaml writes. No constraint keeps it from doing so
-- twice.
create table public.booked (event uuid not null);

-- What the rig commits to see how long that takes.
create table faultrig.pulse (at timestamptz not null);
insert into faultrig.pulse values (clock_timestamp());
