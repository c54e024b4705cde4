-- Judge: what decides whether a person may do something to the deliveries $1.
-- Runs after lock_deliveries.sql, as a statement of its own, so that it sees
-- what others committed before the locks were ours; by itself it is a look
-- that changes nothing.
--
-- leased: a listener works on it, or will until its lease has run out. The
-- claim says so: it is null, or version 5 (a successor, see
-- record_deliveries.sql), where the delivery is nobody's. One that an older version
-- has scheduled still has that of its event, which never is a lease's then. idle: it
-- was handed back or put off, and is nobody's since. in_hand: its event is
-- claimed, or waits to be: whoever has it takes up the event's deliveries.
--
-- unclear: it may have arrived, since not each of its attempts is on record as not
-- taken; one without a record is one whose listener died.
--
-- stray: it was being sent with its event, whose lease it shares, and that was
-- deleted meanwhile. A listener that lives has it on record within minutes; where it
-- ended nobody comes to it any more.
--
-- newer: there is a later generation of it, or of another that has the same step and
-- the same recipient, as far as a masked one tells; find_kin.sql has what tells
-- them apart. The deliveries of an event are found as adopt_deliveries.sql says.
select d.id, d.event_seq, d.channel, d.state, d.generation, coalesce(d.held_from, ''),
       d.attempts <> (select count(*) from outbox.attempts as a where a.delivery_id = d.id and a.kind <> 'unknown') as unclear,
       coalesce(d.claim is not null and get_byte(uuid_send(d.claim), 6) >> 4 <> 5 and d.due_at > clock_timestamp()
                and not (d.state = 'scheduled' and d.claim is not distinct from e.claim), false) as leased,
       d.due_at is not null and (d.claim is null or get_byte(uuid_send(d.claim), 6) >> 4 = 5) as idle,
       coalesce(e.processed_at is null and e.lease_until is distinct from 'infinity' and e.seq is not null, false) as in_hand,
       e.seq is null as event_gone,
       d.state = 'sending' and e.seq is null and d.due_at is null
           and coalesce(d.announced_at, d.created_at) < clock_timestamp() - interval '1 hour' as stray,
       d.content is not null or d.scope is not null as has_content,
       d.after_steps is not null and d.due_at is null as waits,
       exists (
           select from outbox.deliveries as n
           where n.event_seq = d.event_seq
             and n.id between (encode(substr(int8send(d.event_seq), 3), 'hex') || repeat('0', 20))::uuid
                          and (encode(substr(int8send(d.event_seq), 3), 'hex') || repeat('f', 20))::uuid
             and n.route = d.route and n.step = d.step and n.channel = d.channel and n.recipient = d.recipient
             and n.generation > d.generation)
       or exists (
           select from outbox.deliveries as n
           where n.event_seq = d.event_seq and substr(uuid_send(n.id), 1, 6) <> substr(int8send(n.event_seq), 3)
             and n.route = d.route and n.step = d.step and n.channel = d.channel and n.recipient = d.recipient
             and n.generation > d.generation) as newer,
       d.supersedes is not null and exists (
           select from outbox.deliveries as n
           where n.supersedes = d.supersedes and n.step = d.step and n.event_seq > d.event_seq) as superseded
from outbox.deliveries as d
left join public.outbox_events as e on e.seq = d.event_seq
where d.id = any ($1::uuid[])
order by d.event_seq, d.id
