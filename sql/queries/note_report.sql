-- Note: of delivery $1 its provider says that it has it under the name $2 ('': it
-- does not say), and what became of it: $3, for the reason $4 ('': nothing, none).
-- Runs after lock_report.sql. There is no row where there is no such delivery; else
-- whether what became of it is news, and whether the delivery is due for it.
--
-- Reports come late, again, and in any order. The words are in an order of their own,
-- and one is only followed by a later one, so that the last of them all is on record
-- however they come. What arrived after all did arrive; and what arrived never has not.
--
-- Its name is written once, where the provider was not known to have it, unless
-- another delivery has that name: see note_look.sql. It proves that the delivery was
-- taken. What a listener works on is left to that listener, or to whoever takes it
-- over; what is nobody's and open is due, and ends as delivered under a claim as
-- anything does. Held, by a listener, was only what nobody knew that of.
--
-- A delivery that was attempted more than once may be two messages. Of another than
-- the one on record only that it arrived counts.
with it as materialized (
    select d.id, d.state, d.due_at, d.finished_at, d.held_from,
           d.claim is null or get_byte(uuid_send(d.claim), 6) >> 4 = 5 as nobodys,
           $2::text <> '' and d.provider_id is null and d.attempts > 0 and not exists (
               select from outbox.deliveries as o
               where o.likeness = d.likeness and o.id <> d.id and o.provider_id = $2::text) as named,
           coalesce(array_position(w.words, $3::text) > coalesce(array_position(w.words, d.receipt), 0), false)
               and d.attempts > 0
               and (d.provider_id is null or d.provider_id = $2::text or d.attempts = 1 or $3::text = 'delivered') as news
    from outbox.deliveries as d,
         (select array['queued', 'sent', 'canceled', 'failed', 'undelivered', 'delivered']) as w (words)
    where d.id = $1
    for no key update of d
), judged as (
    select it.*, it.named and it.nobodys and it.finished_at is null
                 and (it.state = 'held' and it.held_from is null
                      or it.state in ('sending', 'uncertain', 'ready', 'retry') and it.due_at is not null) as freed
    from it
), noted as (
    update outbox.deliveries as d
    set provider_id  = case when j.named then $2::text else d.provider_id end,
        receipt      = case when j.news then $3::text else d.receipt end,
        receipt_code = case when j.news then nullif($4::text, '') else d.receipt_code end,
        receipt_at   = case when j.news then clock_timestamp() else d.receipt_at end,
        state        = case when j.freed and d.state = 'held' then 'uncertain' else d.state end,
        stuck_at     = case when j.freed and d.state = 'held' then null else d.stuck_at end,
        due_at       = case when j.freed then clock_timestamp() else d.due_at end
    from judged as j
    where d.id = j.id and (j.named or j.news)
)
select news, freed from judged
