-- creates: trigger outbox_events_reopen on public.outbox_events
--
-- Setting processed_at back to null asks for an event again, as it did with
-- the worker that we succeed. The event takes a new place at the end of the
-- order, since claims no longer look where it was, and its deliveries follow
-- it: what was delivered stays delivered, the rest is planned anew. What is finished and not
-- delivered is replaced by that, also where the plan has become another: it says so in its
-- claim, as what is replayed does (queries/replay_deliveries.sql). What is finished and due was
-- changed by hand, and is somebody's who settles it.
--
-- SECURITY DEFINER: whoever may set processed_at need not have rights on our
-- own columns or on the ledger.
-- The ids of the deliveries of the event whose number is seq, by index: those
-- that begin with 48 bits of it, and those that were made under a number that
-- the event had before. No id is in both.
create or replace function outbox.deliveries_of(seq bigint) returns setof uuid
    language plpgsql stable rows 2 set search_path = pg_catalog, pg_temp as
$$
begin
    return query
        select d.id from outbox.deliveries as d
        where d.event_seq = seq
          and d.id between (encode(substr(int8send(seq), 3), 'hex') || repeat('0', 20))::uuid
                       and (encode(substr(int8send(seq), 3), 'hex') || repeat('f', 20))::uuid;
    return query
        select d.id from outbox.deliveries as d
        where d.event_seq = seq
          and substr(uuid_send(d.id), 1, 6) <> substr(int8send(d.event_seq), 3);
end
$$;

revoke all on function outbox.deliveries_of(bigint) from public;

create or replace function outbox.reopen() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as
$$
declare
    place bigint := nextval('public.outbox_events_seq_seq');
begin
    update public.outbox_events set seq = place, lease_until = null where id = new.id;
    update outbox.deliveries
    set event_seq = place,
        claim = case when finished_at is not null and due_at is null and state <> 'delivered'
                     then '{{replaced}}' else claim end
    where id in (select outbox.deliveries_of(old.seq));
    return null;
end
$$;

revoke all on function outbox.reopen() from public;

drop trigger if exists outbox_events_reopen on public.outbox_events;

create trigger outbox_events_reopen
    after update of processed_at on public.outbox_events
    for each row
    when (old.processed_at is not null and new.processed_at is null)
    execute function outbox.reopen();
